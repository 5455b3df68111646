"""Every name, label, annotation and tag that the operator makes, in one place.

Names carry the hash of what goes in and the attempt, so that a repeated request meets "already
exists" instead of doing the work twice.
"""

from __future__ import annotations

import re

from goservice.api.resource import GROUP, REBUILD_ANNOTATION, RESTART_ANNOTATION, GoService
from goservice.manifest import digest_of

OPERATOR = "goservice-operator"
"""Field manager, managed-by label and everything that installs the operator."""

HANDOVER = "goservice-operator-handover"
"""The second field manager, which holds `replicas` while it changes hands."""

MANAGED_BY = "app.kubernetes.io/managed-by"
"""Label of everything that the operator makes; its watches select on it."""
COMPONENT = "app.kubernetes.io/component"
"""Label: `app` for what runs, `build` for what builds."""
SERVICE = f"{GROUP}/service"
"""Label: the name of the GoService that an object belongs to."""
COMMIT = f"{GROUP}/commit"
"""Annotation of a Job and of the Deployment: the full commit that was built."""
INPUTS = f"{GROUP}/inputs"
"""Annotation of a Job and of the Deployment: the hash of the build's inputs."""
ATTEMPT = f"{GROUP}/attempt"
"""Annotation of a Job and of the Deployment: which attempt at these inputs it is."""
TRIGGER = f"{GROUP}/trigger"
"""Annotation of a Job: why the build was started, separated by commas."""
TEMPLATE = f"{GROUP}/template"
"""Annotation of the Deployment: hash of the pod template's inputs."""
GO_VERSION = f"{GROUP}/go-version"
"""Annotation of the Deployment: the go line of the module in the image."""
ARCH = f"{GROUP}/arch"
"""Annotation of the Deployment: the architecture that the image is made for."""
UNTAGGED = f"{GROUP}/untagged"
"""Annotation of the Deployment: the tag that the registry refused to its image; absent if it took it."""
REBUILD_HANDLED = f"{GROUP}/rebuild-handled-at"
"""Annotation of a Job and of the Deployment: the rebuild request that the build answers."""
RESTART_HANDLED = f"{GROUP}/restart-handled-at"
"""Annotation of the Deployment: the restart request that was answered last."""
RESTARTED_AT = f"{GROUP}/restarted-at"
"""Annotation of the pod template: the restart request, which makes the pods new ones."""
RENDERED = f"{GROUP}/rendered"
"""Annotation of the Deployment: hash of the pod template as this operator version wrote it."""
APPLIED = f"{GROUP}/applied"
"""Annotation: hash of the object as it was applied, so that a field that is no longer wanted is seen too."""
IMAGE = f"{GROUP}/image"
"""Annotation of the Deployment: the image as it was applied, which a webhook may have written otherwise."""
USER_ID = f"{GROUP}/user-id"
"""Annotation of the Deployment: the user id that the image is made for."""
TIME_ZONE = f"{GROUP}/time-zone"
"""Annotation of the Deployment: the time zone that the image is made for."""
REPLICAS_OF = f"{GROUP}/replicas-of"
"""Annotation of the Deployment: who writes `replicas`, GoService or Autoscaler."""
GENERATION = f"{GROUP}/generation"
"""Annotation of a Job: the generation of the resource that it was started for."""
MADE = f"{GROUP}/made"
"""Annotation of a Job: hash of its spec, to see whether a correction would make another one."""
TRIES = f"{GROUP}/tries"
"""Annotation of a Job: how many builds in a row a platform failure has ended, this one counted."""
SPEC_HASH = f"{GROUP}/spec-hash"
"""Annotation of a Job: hash of what the resource says of the build's inputs."""
SETTINGS_HASH = f"{GROUP}/settings-hash"
"""Annotation of a Job: hash of what the platform says of the build's inputs."""


LABELS = (
    "app.kubernetes.io/name",
    MANAGED_BY,
    "app.kubernetes.io/part-of",
    COMPONENT,
    SERVICE,
)
"""Every label of ours."""
ANNOTATIONS = frozenset(
    {
        *(COMMIT, INPUTS, ATTEMPT, TRIGGER, TEMPLATE, GO_VERSION, ARCH, UNTAGGED, REBUILD_HANDLED),
        *(RESTART_HANDLED, RENDERED, APPLIED, IMAGE, USER_ID, TIME_ZONE, REPLICAS_OF, GENERATION),
        *(MADE, TRIES, SPEC_HASH, SETTINGS_HASH, REBUILD_ANNOTATION, RESTART_ANNOTATION),
    }
)
"""Every annotation of an object that is read."""


def labels(service: GoService, component: str) -> dict[str, str]:
    """The labels of every child; never the resource's own ones."""
    return {
        "app.kubernetes.io/name": service.name,
        MANAGED_BY: OPERATOR,
        "app.kubernetes.io/part-of": OPERATOR,
        COMPONENT: component,
        SERVICE: service.name,
    }


def selector(service: GoService) -> dict[str, str]:
    """What Deployment and Service select on; it never changes."""
    return {SERVICE: service.name, COMPONENT: "app"}


def selector_text(service: GoService) -> str:
    """The selector as kubectl takes it."""
    return ",".join(f"{key}={value}" for key, value in sorted(selector(service).items()))


def build_account(service: GoService) -> str:
    """The build's ServiceAccount, which has no rights."""
    return f"{service.name}-build"


def cache_claim(service: GoService) -> str:
    """The claim that is made for the caches of the service's builds."""
    return f"{service.name}-build-cache"


def kept_on(service: GoService) -> str:
    """The claim that the caches of the service's builds lie on, empty if nothing is kept between them."""
    cache = service.spec.build.cache
    return (cache.claim_name or cache_claim(service)) if cache else ""


def is_lasting(service: str, name: str) -> bool:
    """Whether an object that lasts may have this name, if it is of the service of that name."""
    return name in (service, f"{service}-build", f"{service}-build-cache")


def is_of_a_build(service: str, name: str) -> bool:
    """Whether a build's object may have this name, if it is of the service of that name."""
    return name.startswith(f"{service}-build-")


def build(service: GoService, inputs: str, attempt: int) -> str:
    """The name of a build: its Job and its ConfigMap."""
    return f"{service.name}-build-{inputs}-{attempt}"


def parse_build(service: GoService, name: str) -> tuple[str, int] | None:
    """Inputs and attempt of the service's build of this name; None if it is no name of a build."""
    found = re.fullmatch(
        rf"{re.escape(service.name)}-build-([0-9a-f]{{10}})-([1-9][0-9]{{0,8}})", name
    )
    return (found[1], int(found[2])) if found else None


def expand(text: str, service: GoService, commit: str, inputs: str) -> str:
    """The text with its placeholders filled in."""
    git = service.spec.source.git if service.spec.source else None
    revision = (git.revision if git else None) or commit
    values = {
        "COMMIT": commit,
        # A tag begins with a letter, a digit or _: @acme/api@1.2.0 gives acme-api-1.2.0.
        "REVISION": re.sub(r"[^A-Za-z0-9_.-]", "-", revision).lstrip("-.")[:64] or commit,
        "INPUTS": inputs,
        "NAME": service.name,
        "NAMESPACE": service.namespace,
    }
    return re.sub(r"\$\(([A-Z]+)\)", lambda m: values[m[1]], text)


def tag(service: GoService, commit: str, inputs: str) -> str:
    """The tag to push, at most 128 characters."""
    return expand(service.spec.image.tag, service, commit, inputs)[:128]


def destination(service: GoService, commit: str, inputs: str) -> str:
    """Repository and tag to push."""
    return f"{service.spec.image.repository}:{tag(service, commit, inputs)}"


def image(service: GoService, digest: str) -> str:
    """The image that is deployed: always by digest."""
    return f"{service.spec.image.repository}@{digest}"


def event(uid: str, reason: str, message: str) -> str:
    """The name of an event: the same transition has the same name."""
    return digest_of({"uid": uid, "reason": reason, "message": message})
