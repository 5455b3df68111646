"""Shell programs are files, which a linter reads, and are rendered as they stand there."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from goservice.build import shell
from goservice.data import data_dir

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "operator" / "goservice").rglob("*.py"))
PROGRAMS = sorted(data_dir("templates").glob("*.sh"))

LONGEST = 3
"""Lines of a shell program that may stand in Python."""

SHELL = re.compile(
    r"^#!.*sh$|\bset -\w*[eux]|; then\b|; do\b|^\s*(?:then|fi|do|done|esac)\b"
    r"|^\s*(?:if \[|if ! |if command |for \w+ in [^:]*$|while \[|while read |case \S+ in$)"
    r'|\$\((?!COMMIT|REVISION|INPUTS|NAME)|"\$[\w@*{]|\|\| (?:true|exit)|^\s*export \w+=|^\s*exec "',
    re.MULTILINE,
)
"""What stands in shell programs, and hardly in a message, a Dockerfile's line or YAML."""


def programs(source: str) -> Iterator[int]:
    """The lines of a Python file where a string of more than three lines looks like shell."""
    tree = ast.parse(source)
    docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    pieces = {
        piece for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for piece in node.values
    }
    for node in ast.walk(tree):
        if node in docstrings or node in pieces:
            continue
        text = ""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        elif isinstance(node, ast.JoinedStr):
            constants = (piece for piece in node.values if isinstance(piece, ast.Constant))
            text = "".join(str(piece.value) for piece in constants)
        if len(text.strip().splitlines()) > LONGEST and SHELL.search(text):
            yield getattr(node, "lineno", 0)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_no_module_holds_a_shell_program(source: Path) -> None:
    found = [f"{source.relative_to(ROOT)}:{line}" for line in programs(source.read_text())]
    assert not found, "make it a file of templates/, and read it by goservice.build.shell"


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_the_look_at_modules_would_see_every_program(program: Path) -> None:
    text = shell.program(program.stem)
    assert [*programs(f"a = 1\nSCRIPT = {text!r}")] == [2]


def test_the_look_at_modules_takes_f_strings_and_no_examples_in_docstrings() -> None:
    script = 'set -eu\nfor each in a b; do\n  echo "$each" {folder}\ndone\n'
    assert [*programs(f'SCRIPT = f"""{script}"""')] == [1]
    assert not [*programs(f'"""What it is for.\n\n{script}"""')]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_is_its_file_without_the_head(program: Path) -> None:
    text = program.read_text()
    rendered = shell.program(program.stem)
    head = text.removesuffix(rendered)
    assert rendered.strip()
    assert rendered[0] != "\n"
    assert head.startswith("# shellcheck shell=sh\n"), "the linter must know which shell"
    assert all(line.startswith("#") for line in head.splitlines()[:-1])
    assert head.splitlines()[-1] == ""


@pytest.mark.parametrize(
    "name",
    [
        "accounts",
        "files-copy",
        "packages-install",
        "packages-mirror",
        "zone-copy",
        "zone-known",
    ],
)
def test_what_stands_in_a_dockerfile_is_one_line_there(name: str) -> None:
    """The linter reads it broken over lines: joined it must be the same program."""
    lines = shell.program(name).splitlines()
    assert not [line for line in lines if line.lstrip().startswith("#")]
    subprocess.run(["sh", "-n", "-c", " ".join(lines)], check=True)


def test_the_linter_reads_every_shell_file() -> None:
    """`make check` gives it .ci/run and every *.sh."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    scripts = set()
    for name in listed.rstrip("\0").split("\0"):
        file = ROOT / name
        if file.is_file() and re.match(rb"#!.*\b(?:ba|da|k|z)?sh\b", file.read_bytes()[:64]):
            scripts.add(name)
    assert ".ci/run" in scripts
    assert {name for name in scripts if not name.endswith(".sh")} == {".ci/run"}
    assert "git ls-files '*.sh' .ci/run | xargs" in (ROOT / "Makefile").read_text()
