"""No symbolic link of the source may leave it: a build would read what it points to.

Its folders are not endlessly deep either: what walks them later may do so by recursion.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from goservice.api.conditions import Reason
from goservice.fetch.checkout import LONGEST_PATH, Refused, shown

MOST_HOPS = 255
"""Links that are followed from one link on; a longer chain counts as a circle. Linux follows 40."""

DEEPEST = 200
"""Folders below one another; whoever walks them by recursion is stopped by Python at 1000 calls."""


def check(tree: Path) -> None:
    """Refuse links that leave the tree, at any hop, and folders that are too deep.

    Raises:
        Refused: there is one.
    """
    root = os.fspath(tree)
    for entry, path in _entries(root):
        if entry.is_symlink() and _leaves(root, path):
            link = shown(path, LONGEST_PATH)
            target = shown(os.readlink(entry.path), LONGEST_PATH)  # noqa: PTH115
            raise Refused(
                Reason.UNSAFE_SOURCE,
                f"The link {link} points outside the repository, to {target}: make it relative "
                "and keep it inside, or remove it.",
            )


def _entries(root: str) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Everything below a folder and its path from there; names need not be valid UTF-8."""
    waiting = [(root, "")]
    while waiting:
        folder, path = waiting.pop()
        if path.count("/") > DEEPEST:
            raise Refused(
                Reason.UNSAFE_SOURCE,
                f"The folder {shown(path, LONGEST_PATH)} is more than {DEEPEST} folders deep: "
                "move it up, or remove it.",
            )
        with os.scandir(folder) as found:
            for entry in found:
                yield entry, path + entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, f"{path}{entry.name}/"))


def _leaves(root: str, link: str) -> bool:
    """Whether following a link leaves the root at any hop, be the target there or not.

    Names are taken one by one, as the kernel does: `..` after a link means the parent of what the
    link points to. A circle never ends and so never leaves; nothing can follow it.
    """
    rest = deque(link.split("/"))
    here: list[str] = []
    hops = 0
    while rest:
        name = rest.popleft()
        if name in ("", "."):
            continue
        if name == "..":
            if not here:
                return True
            here.pop()
            continue
        path = "/".join((root, *here, name))
        if not os.path.islink(path):  # noqa: PTH114
            here.append(name)
            continue
        target = os.readlink(path)  # noqa: PTH115
        if target.startswith("/"):
            return True
        hops += 1
        if hops > MOST_HOPS:
            return False
        rest.extendleft(reversed(target.split("/")))
    return False
