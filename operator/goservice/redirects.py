"""What is said of a git server that redirects. Nobody follows it: the resource names the address.

One rule for the operator, which resolves, and for the build, which fetches. The Location of an answer
is shown only if it is a repository's plain address; its query, which may hold a token, never is.
"""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

LONGEST = 200
"""Characters of an address that a message shows; a longer one is not shown at all."""

INFO_REFS = "/info/refs"
"""What git's smart HTTP protocol appends to a repository's address to list its refs."""

PLAIN_FILES = re.compile(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?\trefs/")
"""How the answer begins of a server that knows nothing of that protocol and serves the repository's files."""

STATUSES = (301, 302, 303, 307, 308)
"""The HTTP status codes that redirect."""

_PLAIN = re.compile(
    r"https?://(?:[A-Za-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~+@-]+)+"
)
"""An address that can be written into spec.source.git.url: no user, no query, no escapes."""


def refusal(host: str, requested: str, location: str) -> str:
    """What is said of a redirect, without a full stop: its target if that can be shown, and advice.

    `requested` is the URL that was asked for, `location` the answer's Location header.
    """
    target = _repository(requested, location)
    if location and not _asks_for_refs(requested, location):
        return (
            f"{host} redirects to a page that is no repository, as a server does that asks to sign in;"
            " only public repositories can be built: check spec.source.git.url"
        )
    if target:
        return (
            f"{host} redirects to {target}, which is not followed:"
            " write that address into spec.source.git.url"
        )
    return (
        f"{host} redirects to another address, which is not followed:"
        " set spec.source.git.url to the repository's final one"
    )


def _asks_for_refs(requested: str, location: str) -> bool:
    """Whether a redirect leads to what was asked for, only elsewhere."""
    try:
        return urlsplit(urljoin(requested, location)).path.endswith(INFO_REFS)
    except ValueError:
        return True


def _repository(requested: str, location: str) -> str:
    """The repository that a request is redirected to; empty if it is none that can be shown."""
    try:
        parts = urlsplit(urljoin(requested, location))
    except ValueError:
        return ""
    if not location or "@" in parts.netloc or not parts.path.endswith(INFO_REFS):
        return ""
    target = f"{parts.scheme}://{parts.netloc}{parts.path.removesuffix(INFO_REFS)}"
    plain = _PLAIN.fullmatch(target) and ".." not in parts.path.split("/")
    return target if plain and len(target) <= LONGEST else ""
