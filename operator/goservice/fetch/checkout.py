"""What to check out, why it may be refused, and how words of others are shown."""

from __future__ import annotations

import re
from dataclasses import dataclass

from goservice.api.conditions import Reason
from goservice.errors import GoServiceError

LONGEST_PATH = 60
"""Bytes of a path that a message shows: several paths must fit into one report."""

FULL_COMMIT = re.compile(r"[0-9a-fA-F]{40}")
"""A commit's full SHA-1 hash; no shortened one."""

_PATH = r"[A-Za-z0-9._+@~-]+(?:/[A-Za-z0-9._+@~-]+)*"
"""A relative path of plain names, without a leading slash; `..` is refused apart from it."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
"""Characters that a terminal would obey instead of show: control codes, bidirectional overrides."""


class Refused(GoServiceError):
    """The source cannot be built; the reason and message go into the service's status."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Checkout:
    """What to check out, and what must be in it."""

    url: str
    """The repository's http(s) address."""
    commit: str
    """The full commit, 40 lower case hex digits."""
    revision: str
    """The branch, tag or commit that the resource names; empty: the default branch."""
    directory: str
    """The module's folder, relative to the repository's root."""
    package: str
    """The main package, relative to the module's folder."""
    go_version: str
    """The builder's Go version, empty if unknown."""
    tags: tuple[str, ...] = ()
    """The build tags that the service sets."""

    @property
    def host(self) -> str:
        """What messages call the repository's server."""
        return self.url.partition("://")[2].partition("/")[0] or "the server"


def shown(text: str, most: int) -> str:
    """A text on one line without control characters or credentials, at most so many bytes."""
    plain = text.encode(errors="replace").decode()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", plain)
    plain = _CONTROL.sub("", re.sub(r"[\t\n\r\v\f]+", " ", plain)).strip()
    plain = re.sub(r"://[^/@\s]*@", "://", plain)
    if len(plain.encode()) <= most:
        return plain
    return plain.encode()[: most - 3].decode(errors="ignore") + "…"


def check_arguments(checkout: Checkout) -> None:
    """Refuse what git or a path could read another way; the operator refused it before.

    Raises:
        Refused: an argument is not of its form.
    """
    if not re.fullmatch(
        r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/[\x21-\x7e]+", checkout.url
    ):
        raise Refused(
            Reason.UNSAFE_SOURCE,
            "The repository's address is not allowed: set spec.source.git.url to an https:// "
            "or http:// address without user and password.",
        )
    if not FULL_COMMIT.fullmatch(checkout.commit):
        raise Refused(
            Reason.REVISION_NOT_FOUND,
            "The commit is not 40 hex digits: set spec.source.git.revision to a branch, a tag "
            "or a full commit.",
        )
    if checkout.revision and not re.fullmatch(
        r"(?!-)[^\s\x00-\x1f\x7f:^~?*\[\\]+", checkout.revision
    ):
        raise Refused(
            Reason.REVISION_NOT_FOUND,
            "spec.source.git.revision is no name of a branch or tag, and no full commit.",
        )
    if not _inside(checkout.directory):
        raise Refused(
            Reason.NO_GO_MOD,
            "spec.source.git.directory must be a path below the repository's root, without a "
            "leading / or ..",
        )
    if checkout.package != "." and not (
        checkout.package.startswith("./") and _inside(checkout.package[2:])
    ):
        raise Refused(
            Reason.NO_MAIN_PACKAGE,
            "spec.build.package must be . or a path below the module's folder such as "
            "./cmd/server.",
        )


def _inside(path: str) -> bool:
    return bool(re.fullmatch(_PATH, path)) and ".." not in path.split("/")
