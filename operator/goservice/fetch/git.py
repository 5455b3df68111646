"""Git in one tree, with no configuration, environment or credentials but ours."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from goservice.errors import GoServiceError

DEADLINE_SECONDS = 900.0
"""Seconds that one git command may take."""

MOST_OUTPUT = 64 * 1024
"""Bytes of a command's output that are kept; the rest is read and dropped."""

_CONFIGURATION = {
    "advice.detachedHead": "false",
    # Larger files are streamed, so that a huge one does not end the container for its memory.
    "core.bigFileThreshold": "16m",
    # Windows and caches that do not grow with the repository, for the same reason.
    "core.deltaBaseCacheLimit": "32m",
    "core.fsmonitor": "false",
    "core.packedGitLimit": "64m",
    "core.packedGitWindowSize": "16m",
    "core.hooksPath": "/dev/null",
    "core.protectHFS": "true",
    "core.protectNTFS": "true",
    "core.symlinks": "true",
    "credential.helper": "",
    # Faults of old tools that do no harm: git fsck only warns of them. What is dangerous stays refused.
    "fetch.fsck.nulInCommit": "ignore",
    "fetch.fsck.zeroPaddedFilemode": "ignore",
    "gc.auto": "0",
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": "120",
    "i18n.logOutputEncoding": "UTF-8",
    "maintenance.auto": "false",
    "protocol.allow": "never",
    "protocol.http.allow": "always",
    "protocol.https.allow": "always",
    "submodule.recurse": "false",
    "transfer.fsckObjects": "true",
}
"""git's whole configuration, given to every command with -c."""

_ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "https:http",
    "GIT_ASKPASS": "",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_TERMINAL_PROMPT": "0",
    # Where no .netrc can be: curl reads one by itself.
    "HOME": "/nonexistent",
    # git's messages are matched against patterns, which are English.
    "LC_ALL": "C",
}
"""Variables that every git command gets, whatever the container has."""

_KEPT = ("PATH", "TMPDIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables of the container that git gets too: where programs, space and certificates are."""

_PROXIES = ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")  # fmt: skip
"""Variables of the container that name its HTTP proxy. HTTP_PROXY is none of them: curl ignores it."""


class GitFailed(GoServiceError):
    """A git command failed; `output` holds the end of what it wrote, for the log only."""

    def __init__(self, output: str, *, late: bool = False) -> None:
        super().__init__(output)
        # What the server wrote (git marks it with remote:) must not decide the failure's reason.
        own = [line for line in output.splitlines() if not line.startswith("remote:")]
        self.output = "\n".join(own)
        self.late = late
        """Whether it was killed because it took longer than the deadline."""

    def says(self, pattern: str) -> re.Match[str] | None:
        """Whether git itself wrote something like this."""
        return re.search(pattern, self.output)


@dataclass(frozen=True)
class WorkTree:
    """A folder in which git commands are run, with no configuration but ours."""

    tree: Path
    """The folder that the files are checked out into, absolute."""
    deadline_seconds: float = DEADLINE_SECONDS
    """Seconds that one command may take."""

    @property
    def directory(self) -> Path:
        """Where git keeps its own files. Named outright, the tree may belong to another user."""
        return self.tree / ".git"

    def run(self, *arguments: str) -> str:
        """The output of a git command, of which at most 64 KiB are kept.

        Raises:
            GitFailed: it ended with another code than 0, or took too long.
        """
        options = [
            word for key, value in _CONFIGURATION.items() for word in ("-c", f"{key}={value}")
        ]
        with subprocess.Popen(
            ["git", *options, *arguments],
            cwd=self.tree,
            env=environment(os.environ)
            | {"GIT_DIR": str(self.directory), "GIT_WORK_TREE": str(self.tree)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            umask=0o022,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                output, errors, late = _read(process, self.deadline_seconds)
            except SystemExit:
                # SIGTERM came: waiting for git would take the pod's whole grace period.
                os.killpg(process.pid, signal.SIGKILL)
                raise
        if late or process.returncode != 0:
            if process.returncode == -signal.SIGKILL and not late:
                errors += "\ngit died of signal 9"
            raise GitFailed(errors, late=late)
        return output


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """The variables that git sees: ours, and of the given ones proxies and certificates only."""
    kept = {name: given[name] for name in (*_KEPT, *_PROXIES) if name in given}
    return kept | _ENVIRONMENT


def _read(process: subprocess.Popen[bytes], seconds: float) -> tuple[str, str, bool]:
    """The first 64 KiB of stdout, the end of stderr, and whether the process ran out of time."""
    assert process.stdout is not None
    assert process.stderr is not None
    end = time.monotonic() + seconds
    late = False
    output = bytearray()
    errors: deque[bytes] = deque(maxlen=16)
    with selectors.DefaultSelector() as selector:
        for stream in (process.stdout, process.stderr):
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            left = end - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            if not ready:
                # git's helpers hold the pipes open too: kill the whole process group.
                os.killpg(process.pid, signal.SIGKILL)
                late = True
                break
            for key, _ in ready:
                chunk = os.read(key.fd, 4096)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    output += chunk[: MOST_OUTPUT - len(output)]
                else:
                    errors.append(chunk)
    return output.decode(errors="replace"), b"".join(errors).decode(errors="replace"), late
