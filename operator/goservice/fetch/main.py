"""What the build pod's first container runs: check one commit out, verify it, report.

It needs nothing but git and files. What the repository says is material, never an instruction: git
runs without any configuration but ours, no link may leave the tree, and nothing that the server or
the repository wrote reaches the report but a commit's own facts, go.mod's go line and names of
files, cleaned and capped. It never builds anything and never follows a submodule.
"""

from __future__ import annotations

import json
import platform
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

from goservice.api.conditions import Reason
from goservice.fetch import download, links, module, pointers
from goservice.fetch.checkout import Checkout, Refused, check_arguments, shown
from goservice.fetch.download import Say
from goservice.fetch.git import GitFailed, WorkTree

ARCHITECTURES = {
    "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "riscv64": "riscv64",
    "s390x": "s390x", "x86_64": "amd64",
}  # fmt: skip
"""What Go and Kubernetes call the machine that builds."""

LONGEST_REPORT = 4000
"""Bytes of the report. The kubelet cuts a container's termination message at 4096."""

LONGEST_MESSAGE = 490
"""Bytes of a refusal. The operator shows its first 500 characters."""

LONGEST_SUBJECT = 200
"""Bytes of the commit's first line that are reported."""

LONGEST_AUTHOR = 100
"""Bytes of the author's name that are reported."""


def main(
    url: str,
    commit: str,
    revision: str = "",
    directory: str = ".",
    package: str = ".",
    *,
    into: str,
    go_version: str = "",
    tags: str = "",
    termination_log: str = "/dev/termination-log",
) -> int:
    """Check out, verify and report; the exit code, 0 or 1."""
    started = time.monotonic()

    def say(text: str) -> None:
        _print(f"{time.monotonic() - started:7.2f} s  {shown(text, 2000)}")

    checkout = Checkout(
        url,
        commit.lower(),
        revision or "",
        directory or ".",
        package or ".",
        go_version or "",
        tuple(tags.split(",")) if tags else (),
    )
    report: dict[str, str]
    try:
        with _ending_at_once():
            report = fetch(checkout, WorkTree(Path(into).absolute()), say)
        code = 0
    except Refused as refused:
        report = {
            "reason": str(refused.reason),
            "message": shown(str(refused), LONGEST_MESSAGE),
        }
        say(f"{refused.reason}: {refused}")
        code = 1
    line = json.dumps(report, ensure_ascii=False)
    assert len(line.encode()) <= LONGEST_REPORT
    try:
        Path(termination_log).write_text(line + "\n", encoding="utf-8")
    except OSError as error:
        say(f"The report could not be written to {termination_log}: {error.strerror}")
        _print(line)
    return code


def fetch(checkout: Checkout, git: WorkTree, say: Say) -> dict[str, str]:
    """The report on the commit, which is then in the tree, without git's own files.

    Raises:
        Refused: the source cannot be fetched, or cannot be built as the service says.
    """
    check_arguments(checkout)
    try:
        _make_empty(git.tree)
        say(f"Fetching {checkout.commit} from {checkout.host}")
        download.get(checkout, git, say)
        say("Checking the files out")
        download.check_out(checkout, git)
        report = _facts(checkout.commit, git)
        shutil.rmtree(git.directory)
        say("Checking links")
        links.check(git.tree)
        say("Checking the module and its main package")
        go = module.check_module(checkout, git.tree)
        module.check_package(checkout, git.tree)
        say("Checking that files have their contents")
        pointers.check(checkout, git.tree)
    except GitFailed as failed:
        raise download.explained(failed, checkout, git, say) from failed
    except OSError as error:
        raise download.unwritable(error) from error
    say(f"Done: {report['subject']}")
    return report | {"go": go, "arch": ARCHITECTURES.get(platform.machine(), "")}


def _make_empty(tree: Path) -> None:
    """Empty the folder: a container that is restarted finds what its first try left in the volume.

    Only a mount point is emptied, so that a wrong argument by hand deletes nobody's work.
    """
    tree.mkdir(parents=True, exist_ok=True)
    left = list(tree.iterdir())
    if left and not tree.is_mount():
        raise Refused(Reason.GIT_UNAVAILABLE, "The folder for the source is not empty.")
    for path in left:
        if path.is_dir() and not path.is_symlink():
            try:
                shutil.rmtree(path)
            except RecursionError:
                message = "The folder for the source holds folders too deep to be removed."
                raise Refused(Reason.GIT_UNAVAILABLE, message) from None
        else:
            path.unlink()


def _facts(commit: str, git: WorkTree) -> dict[str, str]:
    """When the commit was made, by whom, and its first line."""
    written = git.run("log", "-1", "--no-show-signature", "--format=%ct%x00%an%x00%s", commit)
    seconds, _, rest = written.partition("\0")
    author, _, subject = rest.partition("\0")
    try:
        moment = datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        moment = ""
    return {
        "commit": commit,
        "time": moment,
        "author": shown(author, LONGEST_AUTHOR),
        "subject": shown(subject, LONGEST_SUBJECT),
    }


@contextmanager
def _ending_at_once() -> Iterator[None]:
    """Exit on SIGTERM: the kernel does not deliver it to a process 1 that has no handler for it."""

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
