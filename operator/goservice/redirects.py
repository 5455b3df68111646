"""What is said of a git server that redirects. Nobody follows it: the resource names the address.

One rule for the operator, which resolves, and for the build, which fetches. A place that an answer
names is shown only if it is a repository's plain address; a query, which may hold a token, never is.
"""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

LONGEST = 200
QUESTION = "/info/refs"
STATUSES = (301, 302, 303, 307, 308)

_PLAIN = re.compile(
    r"https?://(?:[A-Za-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~+@-]+)+"
)


def refusal(host: str, asked: str, location: str) -> str:
    """A sentence without its full stop: where it leads if that can be told, and what to do."""
    target = _repository(asked, location)
    if target:
        return (
            f"{host} redirects to {target}, which is not followed:"
            " write that address into spec.source.git.url"
        )
    return (
        f"{host} redirects to another address, which is not followed:"
        " set spec.source.git.url to the repository's final one"
    )


def _repository(asked: str, location: str) -> str:
    """The repository that a redirected question is led to; empty if it is none that can be shown."""
    try:
        parts = urlsplit(urljoin(asked, location))
    except ValueError:
        return ""
    if not location or "@" in parts.netloc or not parts.path.endswith(QUESTION):
        return ""
    target = f"{parts.scheme}://{parts.netloc}{parts.path.removesuffix(QUESTION)}"
    plain = _PLAIN.fullmatch(target) and ".." not in parts.path.split("/")
    return target if plain and len(target) <= LONGEST else ""
