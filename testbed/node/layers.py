"""Image layers as tar files, the same bytes each time for the same content."""

import io
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

Entry = tuple[str, "bytes | Path | str", int]
"""Path in the image; bytes of a file, a file or folder to copy, or `-> target`; mode."""

Skip = Callable[[str], bool]
"""Whether a path is left out of a layer."""


def _never(_: str) -> bool:
    return False


def write(target: Path, entries: Iterable[Entry], skip: Skip = _never) -> None:
    """Write entries into a tar file; folders that they need come first, owned by root.

    Args:
        target: The tar file.
        entries: What it holds.
        skip: Says of a path below a copied folder that it stays out.
    """
    made: set[str] = set()
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content, mode in entries:
            _parents(archive, name, made)
            if isinstance(content, Path) and content.is_dir() and not content.is_symlink():
                _folder(archive, content, name, skip, made)
            else:
                _one(archive, name, content, mode, made)


def _info(name: str, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode = mode
    return info


def _parents(archive: tarfile.TarFile, name: str, made: set[str]) -> None:
    parts = name.split("/")[:-1]
    for depth in range(1, len(parts) + 1):
        parent = "/".join(parts[:depth])
        if parent not in made:
            made.add(parent)
            info = _info(parent, 0o755)
            info.type = tarfile.DIRTYPE
            archive.addfile(info)


def _one(
    archive: tarfile.TarFile, name: str, content: bytes | Path | str, mode: int, made: set[str]
) -> None:
    info = _info(name, mode)
    if isinstance(content, bytes):
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    elif isinstance(content, Path):
        info.size = content.stat().st_size
        with content.open("rb") as source:
            archive.addfile(info, source)
    elif content.startswith("-> "):
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, content[3:], 0o777
        archive.addfile(info)
    else:
        made.add(name)
        info.type = tarfile.DIRTYPE
        archive.addfile(info)


def _folder(archive: tarfile.TarFile, source: Path, name: str, skip: Skip, made: set[str]) -> None:
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source).as_posix()
        if skip(relative):
            continue
        inside = f"{name}/{relative}"
        _parents(archive, inside, made)
        if path.is_symlink():
            _one(archive, inside, f"-> {path.readlink()}", 0o777, made)
        elif path.is_dir():
            if inside not in made:
                _one(archive, inside, "", path.stat().st_mode & 0o7777, made)
        elif path.is_file():
            _one(archive, inside, path, path.stat().st_mode & 0o7777, made)
