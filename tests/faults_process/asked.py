"""What a request of the operator asks for, read from its line, its headers and its body."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from yarl import URL

from goservice.cluster.kinds import KINDS
from goservice.cluster.protocol import MANAGER

_PATH = re.compile(
    r"/(?:api/v1|apis/[^/]+/[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+)(?:/(?P<part>[a-z]+))?)?"
)
"""The path of an object or of a collection."""
_DISCOVERY = re.compile(r"/(?:api|apis)(?:/[^/]+){0,2}")
"""The paths at which an API server says what it serves."""
_KIND_OF = {kind.plural: kind.kind for kind in KINDS.values()}
"""Kinds by the plural that paths have."""


@dataclass(frozen=True)
class Asked:
    """One request: what it does to what."""

    verb: str
    """As `testbed.faults.Point` has it, and watch, discover."""
    kind: str
    """Of a discovery the path."""
    namespace: str
    """Empty for all."""
    name: str
    """Empty for a list or a watch."""
    by_kopf: bool
    """Whether kopf asks, not the operator's client."""

    @property
    def is_write(self) -> bool:
        """Whether it may change an object."""
        return self.verb not in ("get", "list", "watch", "discover")


def asked(method: str, line: str, headers: Mapping[str, str], body: bytes) -> Asked | None:
    """The request, None where it speaks of no object that the operator deals with."""
    url = URL(line, encoded=True)
    by_kopf = headers.get("User-Agent", "").startswith("kopf/")
    if _DISCOVERY.fullmatch(url.path):
        return Asked("discover", url.path, "", "", by_kopf)
    match = _PATH.fullmatch(url.path)
    if match is None or match["plural"] not in _KIND_OF:
        return None
    name = match["name"] or ""
    if method == "POST":
        name = json.loads(body)["metadata"]["name"]
    if method == "GET":
        verb = "get" if name else "watch" if url.query.get("watch") else "list"
    elif method == "PATCH" and match["part"] == "status":
        verb = "apply_status"
    elif method == "PATCH":
        verb = "apply" if url.query.get("fieldManager") == MANAGER else "hand over"
    else:
        verb = {"POST": "create", "DELETE": "delete"}.get(method, method.lower())
    return Asked(
        verb,
        _KIND_OF[match["plural"]],
        match["namespace"] or "",
        name,
        by_kopf,
    )
