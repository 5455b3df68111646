"""What rendering assumes of the source: a go.mod that the builder can read, a main package."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from goservice.api.conditions import Reason
from goservice.fetch import constraints
from goservice.fetch.checkout import LONGEST_PATH, Checkout, Refused, shown

MOST_FOUND = 5
"""Other folders that a message names at the most."""

_GO_VERSION = re.compile(
    r"(?P<major>[0-9]{1,4})\.(?P<minor>[0-9]{1,4})"
    r"(?:\.(?P<patch>[0-9]{1,4})|(?P<stage>beta|rc)(?P<number>[0-9]{1,4}))?"
)
"""A version as a go line may have it: 1.26, 1.26.1, 1.27rc2."""

_PACKAGE_CLAUSE = re.compile(
    r"\ufeff?(?P<lead>(?:\s+|//[^\n]*\n|/\*.*?\*/)*+)package\s+(?P<name>\w+)", re.DOTALL
)
"""A Go file's package clause, after nothing but white space and comments."""


@dataclass(frozen=True)
class PackageSeen:
    """A folder's package, as a build for Linux without cgo sees it."""

    name: str | None
    """Its name; None if no file of it counts. Main wins over others."""
    cgo: str = ""
    """A file that is left out because it imports C."""
    left_out: str = ""
    """A file that is left out by its build constraint or its name."""


def check_module(checkout: Checkout, tree: Path) -> str:
    """The go line of the module's go.mod; empty if there is none that Go would accept.

    Raises:
        Refused: there is no go.mod, or it asks for a newer Go than the builder has.
    """
    file = tree / checkout.directory / "go.mod"
    if not file.is_file():
        raise Refused(Reason.NO_GO_MOD, _no_go_mod(checkout, tree))
    go = go_line(_text(file, 1024 * 1024))
    if checkout.go_version and newer(go, checkout.go_version):
        raise Refused(
            Reason.GO_VERSION_TOO_OLD,
            f"go.mod asks for Go {go} (its line: go {go}) and the builder has Go "
            f"{shown(checkout.go_version, 20)}, which may not download another one "
            "(GOTOOLCHAIN=local): set spec.build.builderImage to an image with Go "
            f"{go} or newer, or lower the go line.",
        )
    return go


def _no_go_mod(checkout: Checkout, tree: Path) -> str:
    folder = tree / checkout.directory
    place = (
        "folder " + shown(checkout.directory, LONGEST_PATH)
        if checkout.directory != "."
        else "the repository's root"
    )
    if folder.is_dir():
        what = f"spec.source.git.directory: there is no go.mod in {place}"
    else:
        what = f"spec.source.git.directory: the repository has no {place}"
    found = [
        shown(path.relative_to(tree).as_posix(), LONGEST_PATH)
        for path in folders(tree)
        if (path / "go.mod").is_file()
    ][:MOST_FOUND]
    if found:
        return f"{what}; set it to a folder that has one: {', '.join(found)}"
    return f"{what}, and no other folder has one: add it with go mod init.{_submodules(tree)}"


def _submodules(tree: Path) -> str:
    return " Submodules are not fetched." if (tree / ".gitmodules").exists() else ""


def go_line(text: str) -> str:
    """The go line of a go.mod, such as 1.26.1; empty if there is none that Go would accept."""
    found = ""
    block = False
    for line in text.splitlines():
        words = re.findall(r'"[^"]*"|`[^`]*`|//.*|[()]|(?:(?!//)[^\s"`()])+', line)
        if words and words[-1].startswith("//"):
            words.pop()
        if block:
            block = words[:1] != [")"]
        elif words[-1:] == ["("]:
            block = True
        elif len(words) == 2 and words[0] == "go" and not found:
            value = words[1].strip('"`')
            found = value if _GO_VERSION.fullmatch(value) else ""
    return found


def newer(line: str, builder: str) -> bool:
    """Whether a go line asks for more than a builder has; False if either cannot be told.

    A line without a patch is content with any release of its minor version, and a builder whose
    patch is unknown may be the newest one.
    """
    wanted, has = _GO_VERSION.fullmatch(line), _GO_VERSION.fullmatch(builder)
    if not wanted or not has:
        return False
    return _rank(wanted, -3) > _rank(has, 10_000)


def _rank(version: re.Match[str], unknown: int) -> tuple[int, ...]:
    stage = {"beta": -2, "rc": -1, None: unknown}[version["stage"]]
    last = int(version["patch"]) if version["patch"] else stage
    return int(version["major"]), int(version["minor"]), last, int(version["number"] or 0)


def check_package(checkout: Checkout, tree: Path) -> None:
    """Refuse a package that go build would make no program of.

    Raises:
        Refused: it is not there, belongs to another module or is not a main package.
    """
    module = tree / checkout.directory
    folder = module / checkout.package
    seen = look(folder, checkout.tags) if folder.is_dir() else PackageSeen(None)
    name = seen.name
    other = _other_module(module, folder, tree)
    if name == "main" and not other:
        return
    package = f"spec.build.package: {shown(checkout.package, LONGEST_PATH)}"
    if not folder.is_dir():
        what = f"{package} is no folder of the module.{_submodules(tree)}"
    elif other:
        what = (
            f"{package} belongs to another module: set spec.source.git.directory to "
            f"{shown(other, LONGEST_PATH)}."
        )
    elif name:
        what = f"{package} is package {shown(name, 40)}, not package main."
    elif seen.cgo:
        what = (
            f"{package} needs cgo, which builds do not have: {shown(seen.cgo, LONGEST_PATH)} imports C."
            " Use a package without cgo."
        )
        raise Refused(Reason.COMPILE_FAILED, what)
    elif seen.left_out:
        what = (
            f"{package} holds no Go files for Linux and build.tags: the build constraint or the name of"
            f" {shown(seen.left_out, LONGEST_PATH)} leaves it out."
        )
    else:
        what = f"{package} holds no Go files but tests and ignored ones."
    found = [
        shown("./" + path.relative_to(module).as_posix(), LONGEST_PATH).replace("./.", ".")
        for path in _take(_main_packages(module, checkout.tags), MOST_FOUND)
    ]
    if found:
        advice = f" Main packages here: {', '.join(found)}"
    elif other:
        advice = ""
    else:
        advice = " The module has no main package: set spec.source.git.directory to one that has."
    raise Refused(Reason.NO_MAIN_PACKAGE, what + advice)


def _other_module(module: Path, folder: Path, tree: Path) -> str:
    """The module between the service's one and the package, if there is; a workspace joins them."""
    above = [module, *module.parents]
    if any((path / "go.work").is_file() for path in above[: above.index(tree) + 1]):
        return ""
    between = [folder, *folder.parents]
    for path in between[: between.index(module)]:
        if (path / "go.mod").is_file():
            return path.relative_to(tree).as_posix()
    return ""


def _main_packages(module: Path, tags: Collection[str]) -> Iterator[Path]:
    for folder in folders(module):
        if folder != module and _other_module(module, folder, module):
            continue
        if look(folder, tags).name == "main":
            yield folder


def _take(paths: Iterator[Path], most: int) -> list[Path]:
    return [path for path, _ in zip(paths, range(most), strict=False)]


def folders(root: Path) -> Iterator[Path]:
    """A folder and those below that Go would look into, the nearest first."""
    waiting = deque([root])
    while waiting:
        folder = waiting.popleft()
        yield folder
        waiting.extend(
            path
            for path in sorted(folder.iterdir())
            if path.is_dir()
            and not path.is_symlink()
            and path.name not in ("vendor", "testdata", "node_modules")
            and not path.name.startswith((".", "_"))
        )


def look(folder: Path, tags: Collection[str] = ()) -> PackageSeen:
    """What a folder's package is to a build with these tags."""
    name: str | None = None
    cgo = left_out = ""
    for file in sorted(folder.glob("*.go")):
        if file.name.startswith((".", "_")) or file.name.endswith("_test.go"):
            continue
        text = _text(file, 64 * 1024) if file.is_file() else ""
        clause = _PACKAGE_CLAUSE.match(text)
        if clause is None:
            continue
        if not constraints.takes(file.name, clause["lead"], tags):
            left_out = left_out or file.name
        elif constraints.imports_c(text[clause.end() :]):
            cgo = cgo or file.name
        elif name != "main":
            name = "main" if clause["name"] == "main" else name or clause["name"]
    return PackageSeen(name, cgo, left_out)


def _text(file: Path, most: int) -> str:
    with file.open("rb") as stream:
        return stream.read(most).decode(errors="replace")
