"""Skopeo, the program that pushes: its command line, and what its errors mean.

Nothing outside this module knows its flags or its words. One line near its end says why it failed, so
that the container's termination message holds it.
"""

from __future__ import annotations

from goservice.api.conditions import Reason
from goservice.build import shell
from goservice.build.signs import Sign, first_match

CONTAINER = "push"
"""The container that pushes."""

TAG_REFUSED = (
    r"uploading manifest [^ ]+ to [^ ]+: .*(tag invalid|immutab|overwr|already exists|not allow|denied|"
    r"(HTTP|HTTP status:|StatusCode:) (400|403|405|409|412))"
)
"""What Skopeo's fatal line says when all of an image is there and the registry refuses its tag, as an
extended regular expression. Blobs come first: whoever may not push at all is refused before."""


def command() -> list[str]:
    """The program that pushes; the operator's image has skopeo, sh, grep and sha256sum on PATH."""
    return ["sh", "-euc", shell.program("push"), CONTAINER]


def arguments(
    layout: str, destination: str, *, report: str, authfile: str, insecure: bool
) -> list[str]:
    """How the one image of an OCI layout is pushed to a repository:tag, byte for byte.

    `report` gets the image's digest if the registry took it by that alone. Without an `authfile`
    nothing is logged in with. `insecure` allows plain HTTP.
    """
    plain = "plain" if insecure else ""
    return [TAG_REFUSED, report, f"oci:{layout}", f"docker://{destination}", plain, authfile]


_ANSWER = r"(?:: |errors:\\n)"
"""What stands before a registry's answer in the log, and in no image name: a repository called `denied`
is not taken for an answer."""
_SIGNS = (
    Sign(r"getting username and password", Reason.PUSH_DENIED,
         "The Secret of image.pushSecretRef does not hold a user and password that can be read: make it with kubectl create secret docker-registry."),
    Sign(r"Invalid destination name", Reason.PUSH_DENIED,
         "image.repository and image.tag make no image name: the log tail says what is wrong with it."),
    Sign(_ANSWER + r"(?:tag invalid|manifest tag did not match URI)", Reason.PUSH_DENIED,
         "The registry takes this tag no more, nor the image without it: keep $(COMMIT) and $(INPUTS) in image.tag, or let the registry overwrite tags."),
    Sign(_ANSWER + r"(?:name unknown|name invalid|repository name not known to registry|invalid repository name)",
         Reason.PUSH_DENIED,
         "The registry has no such repository: create it there, or correct image.repository."),
    Sign(_ANSWER + r"(?:unauthorized|denied|authentication required|requested access to the resource is denied)|"
         r"\b40[13] \(?(?:Unauthorized|Forbidden)|StatusCode: 40[13],", Reason.PUSH_DENIED,
         "The registry refuses the push: image.pushSecretRef must name a Secret whose user may push to image.repository."),
    Sign(r"initializing (?:source|image from source) oci:|determining manifest MIME type|reading blob \S+ open /|"
         r"Digest did not match", Reason.BUILD_FAILED,
         "The image is not as Kaniko left it and was not pushed: ask for a rebuild."),
    Sign(r"server gave HTTP response to HTTPS client", Reason.REGISTRY_UNAVAILABLE,
         "The registry of image.repository speaks plain HTTP: it must be in the platform's builds.insecureRegistries."),
    Sign(r": (?:x509|tls): ", Reason.REGISTRY_UNAVAILABLE,
         "The certificate of the registry of image.repository is not trusted: it needs one of a known authority."),
    Sign(r": no such host", Reason.REGISTRY_UNAVAILABLE,
         "The host of image.repository has no address: correct it, or look at the cluster's DNS."),
    Sign(r"level=fatal", Reason.REGISTRY_UNAVAILABLE,
         "The registry of image.repository does not take the image: the log tail says why."),
)  # fmt: skip
"""What the fatal line means: what tells more comes first, and the last one holds for every fatal line.

An answer is here by its code (denied) and by the registry's usual message for it: newer versions of
Skopeo leave the code out where the message is the usual one."""


def failure(log: str) -> tuple[Reason, str] | None:
    """Why a push failed, from the end of its log. None if Skopeo itself says nothing."""
    # Its progress goes to another stream, whose lines may come after the fatal one.
    fatal = [line for line in log.splitlines() if "level=fatal" in line]
    matched = first_match(_SIGNS, fatal[-1]) if fatal else None
    return (matched[0].reason, matched[0].message) if matched else None
