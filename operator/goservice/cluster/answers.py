"""What the API server's answers mean: an object, or one of the errors of the tree."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Mapping

from goservice import errors
from goservice.manifest import Manifest

_LONGEST_MESSAGE = 2000
"""Characters of an error's text; a refused object may be quoted in it whole."""

_NOT_IN_SCHEMA = "failed to create typed patch object"
"""How an API server begins the refusal (500) of an apply with a field that its schema lacks."""


def plain(manifest: Manifest) -> Manifest:
    """The object without managedFields: half of its bytes, and nobody here reads them."""
    manifest.get("metadata", {}).pop("managedFields", None)
    return manifest


def decoded(what: str, data: bytes) -> Manifest:
    """The object in an answer's body; `what` names the request in messages."""
    try:
        answer = json.loads(data)
    except ValueError as error:
        raise errors.Unavailable(f"{what}: the API server's answer is not JSON") from error
    if not isinstance(answer, dict):
        raise errors.Unavailable(f"{what}: the API server's answer is not an object")
    return answer


def refusal(what: str, code: int, headers: Mapping[str, str], data: bytes) -> errors.ClusterError:
    """The error that stands for an answer of the API server."""
    try:
        status = json.loads(data)
    except ValueError:
        status = {}
    if not isinstance(status, dict):
        status = {}
    said = str(status.get("message") or "").strip() or f"HTTP {code}"
    wait = headers.get("Retry-After", "")
    return _class_of(code, str(status.get("reason", "")), said)(
        f"{what}: {said}"[:_LONGEST_MESSAGE],
        status=code,
        retry_after=float(wait) if wait.isdecimal() else None,
    )


def _class_of(code: int, reason: str, said: str) -> type[errors.ClusterError]:
    match code:
        case 500 if _NOT_IN_SCHEMA in said:
            # The object is at fault, not the server: trying again cannot help.
            return errors.Invalid
        case 404:
            return errors.NotFound
        case 409:
            return errors.AlreadyExists if reason == "AlreadyExists" else errors.Conflict
        case 401:
            return errors.Unauthorized
        case 403:
            return errors.Forbidden
        case 410:
            return errors.Gone
        case 429:
            return errors.TooManyRequests
        case _ if 400 <= code < 500 and code != 408:
            return errors.Invalid
        case _:
            return errors.Unavailable


LONGEST_LINE = 1 << 16
"""Bytes of a line of a log that are shown; programs print whole files in one."""


async def lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[str]:
    """The lines of a stream, each as it comes; the end of one that is too long is counted only."""
    line, left_out = bytearray(), 0
    async for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            more = LONGEST_LINE - len(line)
            yield _line(line + part[:more], left_out + len(part[more:]))
            line, left_out = bytearray(), 0
        more = LONGEST_LINE - len(line)
        line += rest[:more]
        left_out += len(rest[more:])
    if line or left_out:
        yield _line(line, left_out)


def _line(data: bytearray, left_out: int) -> str:
    text = data.decode(errors="replace").rstrip("\r")
    return f"{text} … ({left_out} more bytes on this line)" if left_out else text
