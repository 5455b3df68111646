"""What git servers advertise, and which commit a revision means in it (smart protocol, 0 and 2).

A server is told that version 2 is spoken here. If it is one of version 2, it answers with what it
can, and is then asked for the refs that count: a small answer, however many refs there are. An older
one answers with all of its refs, of which only those that count are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from goservice.errors import RevisionNotFound, SourceUnfit

MOST_LINES = 500_000
"""Objects that a list may have; more are not read."""

LOOK_ON = 20_000
"""Objects of a list that are read after the branch, for a tag of its name; other refs may lie between."""

_COMMIT = re.compile(r"[0-9a-fA-F]{40}")
"""A commit's full SHA-1 hash."""

_SHORTENED = re.compile(r"[0-9a-fA-F]{7,39}")
"""What looks like the beginning of a commit's hash, which servers do not resolve."""


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a full commit, which needs no request."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def packet(line: str) -> bytes:
    """A line as git sends it, its length before it."""
    return f"{len(line.encode()) + 4:04x}{line}".encode()


class Packets:
    """Cuts an answer into git's lines as it arrives."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._count = 0

    def lines(self, chunk: bytes) -> Iterator[bytes | None]:
        """The lines that are whole by now; None for each flush."""
        self._rest += chunk
        start = 0
        try:
            while len(self._rest) - start >= 4:
                length = int(bytes(self._rest[start : start + 4]), 16)
                if length == 0:
                    start += 4
                    yield None
                    continue
                if length < 4:
                    raise ValueError("a packet without a length")
                if len(self._rest) - start < length:
                    return
                self._count += 1
                if self._count > MOST_LINES:
                    raise SourceUnfit(f"the server lists more than {MOST_LINES} branches and tags")
                line = bytes(self._rest[start + 4 : start + length])
                start += length
                yield line
        finally:
            del self._rest[:start]


class Refs:
    """Reads what a server says of its refs, and keeps only those that a revision may mean."""

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
        self._packets = Packets()
        self._flushes = 0
        self._read_on = 0
        self._names_its_format = False
        self.is_version_2 = False
        """Whether the server is to be asked for the refs: it has only said what it can."""

    def feed(self, chunk: bytes) -> bool:
        """Read on in the answer to info/refs; say whether it cannot change any more."""
        for line in self._packets.lines(chunk):
            if line is None:
                self._flushes += 1
                if self.is_version_2 or self._flushes == 2:
                    return True
            elif self._is_last(self._advertised(line)):
                # Decided by the line, not by how the answer came in pieces: each poll says the same.
                return True
        return False

    def _advertised(self, line: bytes) -> bytes:
        """Take a line in, and give the name of the ref that it lists; empty if it lists none."""
        if line.startswith(b"# service="):
            return b""
        if line.strip() == b"version 2" and not self._found:
            self.is_version_2 = True
            return b""
        if self.is_version_2:
            self._check_format(line)
            return b""
        if self._flushes == 0 or line.startswith(b"ERR "):
            raise ValueError("no list of refs")
        # What the server can stands behind the first ref; a ref's own name may hold the same words.
        listed, _, capabilities = line.rstrip(b"\n").partition(b"\0")
        for capability in capabilities.split(b" "):
            self._check_format(capability)
        sha, _, name = listed.partition(b" ")
        self._keep(name, sha)
        return name

    def _check_format(self, capability: bytes) -> None:
        key, _, value = capability.strip().partition(b"=")
        if key != b"object-format":
            return
        self._names_its_format = True
        if value != b"sha1":
            raise SourceUnfit(
                "the repository's objects have SHA-256 names, which are not supported:"
                " use one with SHA-1 names, git's default"
            )

    def _is_last(self, name: bytes) -> bool:
        """Whether no line after the one with this name is read: what is wanted is known."""
        if self._wanted[0] not in self._found:
            return False
        # A list is sorted: a tag of the branch's name is there by now, or there is none.
        self._read_on += 1
        return len(self._wanted) < 3 or name > max(self._wanted) or self._read_on > LOOK_ON

    def question(self) -> bytes:
        """What a server of version 2 is asked: the refs that count, with the commits of tags."""
        prefixes = [n.decode() for n in self._wanted if not n.endswith(b"^{}")]
        return b"".join(
            (
                packet("command=ls-refs\n"),
                # A server that does not name its format (git before 2.28) refuses to hear of it.
                *([packet("object-format=sha1")] if self._names_its_format else []),
                b"0001",
                packet("peel\n"),
                *(packet(f"ref-prefix {prefix}\n") for prefix in prefixes),
                b"0000",
            )
        )

    def answered(self) -> None:
        """Begin to read the answer to the question."""
        self._packets = Packets()

    def listed(self, chunk: bytes) -> bool:
        """Read on in the answer to the question; say whether it is over."""
        for line in self._packets.lines(chunk):
            if line is None:
                return True
            if line.startswith(b"ERR "):
                raise ValueError("no list of refs")
            sha, name, *more = [*line.rstrip(b"\n").split(b" "), b""]
            self._keep(name, sha)
            for attribute in more:
                if attribute.startswith(b"peeled:"):
                    self._keep(name + b"^{}", attribute.removeprefix(b"peeled:"))
        return False

    def _keep(self, name: bytes, sha: bytes) -> None:
        if name in self._wanted:
            if not is_commit(sha.decode("ascii", "replace")):
                raise ValueError("a ref without a commit")
            self._found[name] = sha

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
                "the repository has no default branch with a commit: push one, or name a revision"
            )
        if _SHORTENED.fullmatch(self._revision):
            raise RevisionNotFound(
                f"there is no branch or tag {self._revision}; a commit needs all 40 characters"
            )
        raise RevisionNotFound(f"the repository has no branch or tag {self._revision}")

    def namesake(self) -> str:
        """The commit of a tag that has the branch's name; empty if there is none, or it is the same."""
        branch, *tags = self._wanted
        if len(tags) < 2 or branch not in self._found:
            return ""
        tag = next((self._found[name] for name in tags if name in self._found), b"")
        return tag.decode().lower() if tag != self._found[branch] else ""
