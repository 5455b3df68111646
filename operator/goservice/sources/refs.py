"""What git servers advertise (smart protocol, version 0), and which commit a revision means in it."""

from __future__ import annotations

import re

from goservice.errors import RevisionNotFound

_COMMIT = re.compile(r"[0-9a-fA-F]{40}")
"""A commit's full SHA-1 hash."""

_SHORTENED = re.compile(r"[0-9a-fA-F]{7,39}")
"""What looks like the beginning of a commit's hash, which servers do not resolve."""


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a full commit, which needs no request."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


class Refs:
    """Reads git's list of refs as it arrives, and keeps only those that a revision may mean."""

    def __init__(self, revision: str | None) -> None:
        self._revision = revision
        if revision is None or revision == "HEAD":
            wanted = ["HEAD"]
        elif revision.startswith("refs/"):
            wanted = [revision + "^{}", revision]
        else:
            branch, tag = f"refs/heads/{revision}", f"refs/tags/{revision}"
            wanted = [branch, tag + "^{}", tag]
        # The order is the order of preference; a peeled tag is the commit that it points to.
        self._wanted = [name.encode() for name in wanted]
        self._found: dict[bytes, bytes] = {}
        self._rest = bytearray()
        self._flushes = 0

    def feed(self, chunk: bytes) -> bool:
        """Read on; say whether the answer cannot change any more."""
        self._rest += chunk
        start = 0
        while len(self._rest) - start >= 4 and self._flushes < 2:
            length = int(bytes(self._rest[start : start + 4]), 16)
            if length == 0:
                self._flushes += 1
                length = 4
            elif length < 4:
                raise ValueError("a packet without a length")
            elif len(self._rest) - start < length:
                break
            else:
                self._line(bytes(self._rest[start + 4 : start + length]))
            start += length
        del self._rest[:start]
        return self._flushes == 2 or self._wanted[0] in self._found

    def _line(self, line: bytes) -> None:
        if line.startswith(b"# service="):
            return
        if self._flushes == 0 or line.startswith(b"ERR "):
            raise ValueError("no list of refs")
        sha, _, name = line.partition(b"\0")[0].rstrip(b"\n").partition(b" ")
        if name in self._wanted:
            if not is_commit(sha.decode("ascii", "replace")):
                raise ValueError("a ref without a commit")
            self._found[name] = sha

    def end(self) -> None:
        """The answer is over: it must have said so itself, or half of it is missing."""
        if self._flushes < 2:
            raise ValueError("a list without its end")

    def commit(self) -> str:
        """The commit that the revision means.

        Raises:
            RevisionNotFound: none of the refs that it may mean is there.
        """
        for name in self._wanted:
            if name in self._found:
                return self._found[name].decode().lower()
        if self._revision is None or self._revision == "HEAD":
            raise RevisionNotFound(
                "the repository has no default branch with a commit; name a revision"
            )
        if _SHORTENED.fullmatch(self._revision):
            raise RevisionNotFound(
                f"there is no branch or tag {self._revision}; a commit needs all 40 characters"
            )
        raise RevisionNotFound(f"the repository has no branch or tag {self._revision}")
