"""From a server to a tree: get one commit, check it out, and name every way this can fail.

Git's words and the server's go to the log; a status gets ours.
"""

from __future__ import annotations

import errno
import http.client
import os
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typing_extensions import override

from goservice import redirects
from goservice.api.conditions import Reason
from goservice.fetch.checkout import FULL_COMMIT, Checkout, Refused, shown
from goservice.fetch.git import GitFailed, WorkTree

FALLBACK_DEPTH = 50
"""Commits of history that are fetched first where a server does not give out a single commit."""

LEAST_FREE = 1024 * 1024
"""Bytes. A volume with less space left counts as full, whatever git made of it."""

LOOK_SECONDS = 10
"""Seconds that the request may take which looks where a redirect leads."""

LOOK_BYTES = 128
"""Bytes of its answer that are read."""

Say = Callable[[str], None]
"""Writes one line into the container's log."""

_DISK_FULL = r"No space left on device|Disk quota exceeded"
"""What git writes where the volume is full."""

_KILLED = r"died of signal 9|[Oo]ut of memory"
"""What git writes where it, or a helper of it, had too little memory."""

_NOT_SMART = r"dumb http transport does not support"
"""What git writes of a server that does not speak its smart HTTP protocol: of files, or of any page."""

_SIGNS: tuple[tuple[str, Reason, str], ...] = (
    (_KILLED, Reason.OUT_OF_MEMORY,
     "git ran out of memory: the commit holds files too large for the fetch container."),
    (r"transport '[^'\n]{0,200}' not allowed|protocol '[^'\n]{0,200}' is not supported", Reason.UNSAFE_SOURCE,
     "The repository's address is not allowed: set spec.source.git.url to an https:// or http:// address."),
    (r"fsck error|error in (?:\w+ )?object|: (?:hasDot|gitmodules|badTree|fullPathname)", Reason.UNSAFE_SOURCE,
     "git refuses an object of the commit as damaged or dangerous: run git fsck on a clone and mend it."),
    (r"mismatched algorithms|expected sha/ref, got '[0-9a-f]{40} ", Reason.UNSAFE_SOURCE,
     "The repository's objects have SHA-256 names, which are not supported: use one with SHA-1 names, git's default."),
    (r"returned error: 30[12378]|update url base from redirection", Reason.UNSAFE_SOURCE,
     "{redirected}."),
    (r"could not read (?:Username|Password)|Authentication failed|returned error: 40[13]", Reason.GIT_AUTHENTICATION_FAILED,
     "{host} asks for credentials, and only public repositories can be built: check spec.source.git.url."),
    (r"repository '[^'\n]{0,2100}' not found|returned error: 4(?:04|10)", Reason.GIT_AUTHENTICATION_FAILED,
     "{host} says that there is no such repository, which is also said of private ones: check spec.source.git.url."),
    (r"[Cc]ould not resolve host", Reason.GIT_UNAVAILABLE, "{host} has no address: its name is not known."),
    (r"certificate", Reason.GIT_UNAVAILABLE, "{host} shows a certificate that is not trusted."),
    (r"returned error: (?P<status>[0-9]{3})", Reason.GIT_UNAVAILABLE, "{host} answered with HTTP status {status}."),
    (r"Failed to connect|Connection refused|[Cc]ouldn't connect", Reason.GIT_UNAVAILABLE,
     "{host} does not accept a connection."),
    (r"", Reason.GIT_UNAVAILABLE, "{host} does not answer as a git server does."),
)  # fmt: skip
"""What git writes, what that means and the message for it; the first that matches counts."""


def get(checkout: Checkout, git: WorkTree, say: Say) -> None:
    """Bring the commit into a new repository: alone if the server gives it so, else with history.

    Raises:
        Refused: the repository does not have it, or it is no commit.
        GitFailed: the server or the machine did not do its part; see `explained`.
    """
    git.run("init", "--quiet", "--template=", "--initial-branch=main")
    try:
        fetch_refs(git, checkout.url, "--depth=1", checkout.commit)
    except GitFailed as failed:
        # Protocol version 0 refuses a commit that no ref points to ("unadvertised"). Other servers
        # say the same words of a commit that is gone and of one that they hide.
        hidden = failed.says(r"unadvertised object")
        if not hidden and not failed.says(r"not our ref|want \S+ not valid|remote ref"):
            raise
        say("The server does not give the commit alone; fetching the revision's history")
        _download_history(checkout, git, whole=bool(hidden))
    kind = _kind(checkout.commit, git)
    if kind != "commit":
        raise Refused(
            Reason.REVISION_NOT_FOUND,
            f"{checkout.commit} is a {kind or 'missing object'}, not a commit: set "
            "spec.source.git.revision to a branch, the tag's name or a commit.",
        )


def fetch_refs(git: WorkTree, url: str, depth: str, *refs: str) -> None:
    """Fetch commits or refs from a server, without its other tags and submodules."""
    git.run("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", depth, "--", url, *refs)


def _download_history(checkout: Checkout, git: WorkTree, *, whole: bool) -> None:
    """Fetch what the revision means until the commit is there.

    The repository was empty: whatever is in it afterwards is reachable from what was asked for.
    """
    found = False
    for refs in _candidates(checkout.revision):
        for depth in (f"--depth={FALLBACK_DEPTH}", "--unshallow"):
            try:
                if depth == "--unshallow" and not (git.directory / "shallow").exists():
                    break
                fetch_refs(git, checkout.url, depth, *refs)
            except GitFailed as failed:
                if not failed.says(r"couldn't find remote ref"):
                    raise
                break
            found = True
            if _kind(checkout.commit, git):
                return
            if not whole:
                break
    commit = checkout.commit
    if FULL_COMMIT.fullmatch(checkout.revision):
        message = (
            f"The repository does not have the commit {commit}: set spec.source.git.revision to "
            "a commit, branch or tag that it has."
        )
    elif not found:
        message = (
            f"The repository has no branch or tag {checkout.revision or 'by default'}, and the "
            f"commit {commit} cannot be had without: set spec.source.git.revision to one it has."
        )
    else:
        message = (
            f"The commit {commit} is not in the history of {checkout.revision or 'the default branch'}"
            " any more (it may have been rewritten): the revision is resolved again; set "
            "spec.source.git.revision if another one is meant."
        )
    raise Refused(Reason.REVISION_NOT_FOUND, message)


def _candidates(revision: str) -> list[list[str]]:
    """What a revision may mean on the server, in order of preference."""
    if not revision or revision == "HEAD":
        return [["HEAD"]]
    if FULL_COMMIT.fullmatch(revision):
        return [["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]]
    if revision.startswith("refs/"):
        return [[revision]]
    return [[f"refs/heads/{revision}"], [f"refs/tags/{revision}"]]


def _kind(name: str, git: WorkTree) -> str:
    """The type of an object that was fetched, empty if it was not."""
    try:
        return git.run("cat-file", "-t", name).strip()
    except GitFailed:
        return ""


def check_out(checkout: Checkout, git: WorkTree) -> None:
    """Write the commit's files, and make sure that they are the commit's.

    Raises:
        Refused: a file of it cannot be written anywhere.
        GitFailed: the machine did not do its part.
    """
    try:
        git.run("checkout", "--quiet", "--force", "--detach", checkout.commit)
    except GitFailed as failed:
        if failed.late or failed.says(f"{_DISK_FULL}|{_KILLED}") or _full(git.tree):
            raise
        raise Refused(
            Reason.UNSAFE_SOURCE,
            "git cannot check the commit's files out, for instance because a file name is not "
            "allowed or too long: rename it in the repository.",
        ) from failed
    head = git.run("rev-parse", "--verify", "HEAD").strip()
    if head != checkout.commit:
        raise Refused(
            Reason.REVISION_NOT_FOUND,
            f"The checkout is at {shown(head, 40)} and not at {checkout.commit}.",
        )


def explained(failed: GitFailed, checkout: Checkout, git: WorkTree, say: Say) -> Refused:
    """The refusal that a failed git command means; git's own words go into the log only."""
    for line in failed.output.splitlines()[-10:]:
        say(f"git: {line}")
    if failed.says(_DISK_FULL) or _full(git.tree):
        return _disk_full()
    if failed.late:
        return Refused(
            Reason.GIT_UNAVAILABLE,
            f"git did not end within {git.deadline_seconds:.0f} s: {checkout.host} is too slow, or "
            "the repository too large.",
        )
    if failed.says(_NOT_SMART) and redirects.PLAIN_FILES.match(_asked_again(checkout.url)[2]):
        return Refused(
            Reason.UNSAFE_SOURCE,
            f"{checkout.host} serves the repository's files and does not speak git's smart HTTP "
            "protocol, which is needed: serve it with git http-backend, or from a forge.",
        )
    reason, message, found = next(
        (reason, message, found)
        for pattern, reason, message in _SIGNS
        if (found := failed.says(pattern))
    )
    words = {"host": checkout.host, **found.groupdict()}
    if "{redirected}" in message:
        requested, location, _ = _asked_again(checkout.url)
        words["redirected"] = redirects.refusal(checkout.host, requested, location)
    return Refused(reason, message.format(**words))


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it becomes an HTTPError, which carries the Location header."""

    @override
    def redirect_request(self, *_: Any) -> None:
        return None


def _asked_again(url: str) -> tuple[str, str, bytes]:
    """The URL that git requested, the Location that the server redirects it to, how its answer begins.

    The last two are empty if unknown. The request is made again, since git prints neither.
    """
    requested = f"{url.rstrip('/')}{redirects.INFO_REFS}?service=git-upload-pack"
    certificates = os.environ.get("GIT_SSL_CAINFO")
    try:
        context = ssl.create_default_context(cafile=certificates)
        opener = urllib.request.build_opener(
            _NoRedirects, urllib.request.HTTPSHandler(context=context)
        )
        with opener.open(requested, timeout=LOOK_SECONDS) as answer:
            return requested, "", answer.read(LOOK_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            return requested, error.headers.get("Location", ""), b""
    except (OSError, ValueError, http.client.HTTPException):
        return requested, "", b""


def _full(tree: Path) -> bool:
    return shutil.disk_usage(tree).free < LEAST_FREE


def _disk_full() -> Refused:
    return Refused(
        Reason.DISK_FULL,
        "The volume for the source is full: the repository is too large for the platform's "
        "setting builds.sourceSizeLimit, or the node's disk is full.",
    )


def unwritable(error: OSError) -> Refused:
    """The refusal for a file or folder of the tree that could not be written or read."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _disk_full()
    return Refused(
        Reason.GIT_UNAVAILABLE,
        f"The source cannot be written or read: {error.strerror or type(error).__name__}.",
    )
