"""No symbolic link of the source may leave it: a build would read what it points to."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

from goservice.conditions import Reason
from goservice.fetch.source import LONGEST_PATH, Refused, shown

MOST_HOPS = 255


def check(tree: Path) -> None:
    """Refuse links that leave the tree, at any hop.

    Raises:
        Refused: there is one.
    """
    root = os.fspath(tree)
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)  # noqa: PTH118 - names need not be valid UTF-8
            if os.path.islink(path) and _leaves(root, os.path.relpath(path, root)):  # noqa: PTH114
                link = shown(os.path.relpath(path, root), LONGEST_PATH)
                target = shown(os.readlink(path), LONGEST_PATH)  # noqa: PTH115
                raise Refused(
                    Reason.UNSAFE_SOURCE,
                    f"The link {link} points outside the repository, to {target}: make it relative "
                    "and keep it inside, or remove it.",
                )


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
