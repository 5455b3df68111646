"""One name for one thing, and a word on each constant and field: what it is, in which unit."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "operator" / "goservice"

MODULES = {str(file.relative_to(PACKAGE)): file for file in sorted(PACKAGE.rglob("*.py"))}
CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")
TYPE = re.compile(r"_?[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*")
UNITS = re.compile(
    r"\b(seconds?|minutes?|hours?|days?|bytes?|characters?|percent|shares?"
    r"|user ids?|versions?|objects?|folders?|links?|commits?|requests?|builds?|tries|codes?|amount|warnings?|pods?|passes|values?|levels?)\b",
    re.IGNORECASE,
)
"""Words that say what a number counts or measures."""


def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def assigned(node: ast.stmt) -> tuple[str, ast.expr | None]:
    """The name and value of an assignment of one name; an empty name if it is none."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=value):
            return name, value
        case _:
            return "", None


def described(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr | None, str]]:
    """Each assignment of a body: its name, its value and the docstring after it, if there is."""
    for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        name, value = assigned(node)
        match after:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield name, value, text
            case _:
                yield name, value, ""


def is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def is_type_variable(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Call) and ast.unparse(value.func) == "TypeVar"


def is_number(value: ast.expr | None) -> bool:
    """Whether an expression is a number or a tuple of numbers; a timedelta has its unit."""
    match value:
        case ast.Constant(value=bool()):
            return False
        case ast.Constant(value=int() | float()):
            return True
        case ast.UnaryOp(operand=operand):
            return is_number(operand)
        case ast.BinOp(left=left, right=right):
            return is_number(left) and is_number(right)
        case ast.Tuple(elts=elements):
            return bool(elements) and all(map(is_number, elements))
        case _:
            return False


def faults(source: ast.Module) -> Iterator[str]:
    """What is wrong with the words of a module."""
    for name, value, text in described(source.body):
        if not CONSTANT.fullmatch(name) or is_type_variable(value):
            continue
        if not text:
            yield f"{name} has no docstring"
        elif is_number(value) and not UNITS.search(text):
            yield f"the docstring of {name} names no unit"
    for node in ast.walk(source):
        if isinstance(node, ast.ClassDef) and is_dataclass(node):
            for (name, _, text), line in zip(described(node.body), node.body, strict=True):
                if isinstance(line, ast.AnnAssign) and not text:
                    yield f"{node.name}.{name} has no docstring"


def type_names(source: ast.Module) -> Iterator[str]:
    """The classes of a module, and the other names that it gives to types; no type variables."""
    for node in ast.walk(source):
        if isinstance(node, ast.ClassDef):
            yield node.name
    for name, value, _ in described(source.body):
        if TYPE.fullmatch(name) and not is_type_variable(value):
            yield name


@pytest.mark.parametrize("module", list(MODULES))
def test_every_constant_and_field_says_what_it_is(module: str) -> None:
    assert not list(faults(tree(module)))


def test_a_name_stands_for_one_type() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for module in MODULES:
        for name in type_names(tree(module)):
            homes[name].append(module)
    for name, modules in homes.items():
        assert len(modules) == 1, f"{name} is defined in {', '.join(modules)}"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("A = 1", "A has no docstring"),
        ("_A: Final = {}", "_A has no docstring"),
        ('A = 1\nB = 2\n"""Seconds."""', "A has no docstring"),
        ('A = 1.5\n"""How long."""', "the docstring of A names no unit"),
        ('A = 64 * 1024\n"""How much."""', "the docstring of A names no unit"),
        ('A = timedelta(seconds=1)\n"""How long."""', None),
        ("@dataclass(frozen=True)\nclass A:\n    b: int = 1", "A.b has no docstring"),
        ('A = 1\n"""Seconds."""', None),
        ('A = "a"\n"""A letter."""', None),
        ("log = 1", None),
        ('T = TypeVar("T")', None),
        ("class A(StrEnum):\n    B = 1", None),
        ('@dataclass\nclass A:\n    b: int = 1\n    """Its b."""', None),
    ],
)
def test_a_missing_word_is_noticed(text: str, fault: str | None) -> None:
    assert list(faults(ast.parse(text))) == ([fault] if fault else [])
