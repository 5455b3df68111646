"""Files that go into the program and lie in Git LFS: what is checked out of them is a pointer."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Iterator
from pathlib import Path

from goservice.api.conditions import Reason
from goservice.fetch import module
from goservice.fetch.checkout import LONGEST_PATH, Checkout, Refused, shown

LONGEST_POINTER = 1024
"""Bytes that a pointer has at the most; larger files are not read."""
LONGEST_CODE = 1024 * 1024
"""Bytes of a Go file in which //go:embed is looked for."""

_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
"""How a pointer begins."""
_EMBED = re.compile(r"^//go:embed[ \t]+([^\r\n]{1,2000})", re.MULTILINE)
"""A line that takes files into the program."""


def check(checkout: Checkout, tree: Path) -> None:
    """Refuse a module that embeds files without their contents.

    Raises:
        Refused: a file that //go:embed takes is a pointer.
    """
    for file in _embedded(tree / checkout.directory, checkout.tags):
        if _is_pointer(file):
            name = shown(file.relative_to(tree).as_posix(), LONGEST_PATH)
            raise Refused(
                Reason.UNSAFE_SOURCE,
                f"{name} lies in Git LFS, whose contents are not fetched: the program would embed a"
                " pointer in its place. Commit the file itself: git lfs migrate export",
            )


def _embedded(root: Path, tags: Collection[str]) -> Iterator[Path]:
    for folder in module.folders(root):
        if not any(folder.glob("*.go")) or module.look(folder, tags).name is None:
            continue
        for code in sorted(folder.glob("*.go")):
            if code.is_symlink() or not code.is_file() or code.name.endswith("_test.go"):
                continue
            with code.open("rb") as stream:
                text = stream.read(LONGEST_CODE).decode(errors="replace")
            for line in _EMBED.findall(text):
                for pattern in _patterns(line):
                    yield from _matches(folder, pattern)


def _patterns(line: str) -> list[str]:
    """The patterns of a //go:embed line, which may be quoted."""
    try:
        words = shlex.split(line.replace("`", '"'))
    except ValueError:
        return []
    plain = [word.removeprefix("all:") for word in words]
    return [
        word for word in plain if word and not word.startswith("/") and ".." not in word.split("/")
    ]


def _matches(folder: Path, pattern: str) -> Iterator[Path]:
    """What a pattern names: files, and all files of folders."""
    try:
        found = list(folder.glob(pattern)) if pattern != "." else [folder]
    except (ValueError, NotImplementedError, re.error):
        return
    for path in found:
        if path.is_symlink():
            continue
        if path.is_dir():
            for below, _, names in os.walk(path):
                yield from (Path(below) / name for name in names)
        else:
            yield path


def _is_pointer(path: Path) -> bool:
    try:
        if path.is_symlink() or path.stat().st_size > LONGEST_POINTER:
            return False
        with path.open("rb") as stream:
            return stream.read(len(_POINTER)) == _POINTER
    except OSError:
        return False
