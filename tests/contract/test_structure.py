"""The folders are as architecture.md has them: no circles, no body in an `__init__.py`, no `spec`."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOP = {
    "goservice": Path("operator/goservice"),
    "testbed": Path("testbed"),
    "benchmarks": Path("benchmarks"),
    "tests": Path("tests"),
}
"""The folder of each top package, from the project's root."""

LONGEST_INIT = 20
"""Lines. An `__init__.py` is a docstring; what a package does stands in modules with a name."""

Graph = Mapping[str, set[str]]

# --- the graph of imports ------------------------------------------------------------------------


def node(root: Path, dotted: str) -> str:
    """The folder that a dotted name stands in; empty if it is not ours.

    A module right below a top package is a node of its own: `goservice` holds the ground floor
    (errors, names) and the roof (process) side by side.
    """
    top, *below = dotted.split(".")
    if top not in TOP:
        return ""
    here, name = root / TOP[top], top
    for part in below:
        if (here / part).is_dir():
            here, name = here / part, f"{name}.{part}"
        elif name == top and (here / f"{part}.py").is_file():
            return f"{name}.{part}"
        else:
            break
    return name


def imported(file: Path) -> Iterator[str]:
    """Every dotted name that a file imports, within functions and for the type checker too."""
    for part in ast.walk(ast.parse(file.read_text())):
        match part:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from (f"{module}.{name.name}" for name in names)
            case _:
                pass


def graph(root: Path) -> Graph:
    """What each folder imports from the others."""
    found: dict[str, set[str]] = {}
    for top, folder in TOP.items():
        for file in (root / folder).rglob("*.py"):
            parts = file.relative_to(root / folder).with_suffix("").parts
            here = node(root, ".".join((top, *parts)))
            others = {node(root, name) for name in imported(file)} - {here, ""}
            found.setdefault(here, set()).update(others)
    return found


def circle(edges: Graph) -> list[str]:
    """The folders of one circle, in the order of their imports; empty if there is none."""
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        found: list[str] = error.args[1]
        return found[::-1]
    return []


def test_no_circle_of_folders() -> None:
    edges = graph(ROOT)
    assert len(edges) > 20
    assert circle(edges) == []


def planted(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (
            {
                "testbed/node/a.py": "from testbed.faults import b\n",
                "testbed/faults/b.py": "def f():\n    import testbed.node.a\n",
            },
            {"testbed.node", "testbed.faults"},
        ),
        (
            {
                "tests/support/a.py": "from tests.unit import b\n",
                "tests/unit/b.py": "from benchmarks import load\n",
                "benchmarks/load.py": "from tests.support.a import c\n",
            },
            {"tests.support", "tests.unit", "benchmarks.load"},
        ),
        (
            {
                "operator/goservice/process.py": "from goservice.loop import queue\n",
                "operator/goservice/loop/queue.py": "from goservice import errors\n",
                "operator/goservice/errors.py": "import os\n",
            },
            set(),
        ),
    ],
)
def test_a_circle_is_found(tmp_path: Path, files: Mapping[str, str], found: set[str]) -> None:
    assert set(circle(graph(planted(tmp_path, files)))) == found


# --- the shape of the folders --------------------------------------------------------------------


def bodies(root: Path) -> list[str]:
    """Each `__init__.py` that is more than a docstring and a few imports."""
    files = [file for folder in TOP.values() for file in (root / folder).rglob("__init__.py")]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [
        str(file.relative_to(root))
        for file in files
        if len(file.read_text().splitlines()) > LONGEST_INIT
        or any(isinstance(part, kinds) for part in ast.walk(ast.parse(file.read_text())))
    ]


def strays(root: Path) -> list[str]:
    """What lies in tests/ and is neither a package nor pytest's own file."""
    return [
        entry.name
        for entry in (root / "tests").iterdir()
        if entry.name not in {"__init__.py", "conftest.py", "__pycache__"}
        and not (entry / "__init__.py").is_file()
    ]


def specs(root: Path) -> list[str]:
    """Folders called `spec` with product code: the word means four things, and tests to tools."""
    return [str(f.relative_to(root)) for f in (root / "operator").rglob("spec") if f.is_dir()]


def test_no_init_has_a_body() -> None:
    assert bodies(ROOT) == []


def test_tests_holds_packages_only() -> None:
    assert strays(ROOT) == []


def test_no_product_code_is_in_a_folder_called_spec() -> None:
    assert specs(ROOT) == []


def test_what_the_shape_forbids_is_found(tmp_path: Path) -> None:
    planted(
        tmp_path,
        {
            "operator/goservice/spec/__init__.py": "def parse():\n    pass\n",
            "testbed/__init__.py": "A = 1\n" * (LONGEST_INIT + 1),
            "tests/unit/__init__.py": '"""Unit tests."""\n',
            "tests/conftest.py": "",
            "tests/factories.py": "",
            "tests/data/x.yaml": "",
        },
    )
    assert bodies(tmp_path) == ["operator/goservice/spec/__init__.py", "testbed/__init__.py"]
    assert sorted(strays(tmp_path)) == ["data", "factories.py"]
    assert specs(tmp_path) == ["operator/goservice/spec"]
