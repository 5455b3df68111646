"""Every regular expression of the operator, and texts that make a bad one slow.

Patterns are found in the code itself (`ast`), so that a new one is found too. Texts are made from a
pattern's own parts: what nearly matches, again and again, is what a search tries longest.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from types import ModuleType
from typing import Any

import goservice
from goservice.api import fields
from goservice.build.signs import Sign

ROOT = Path(goservice.__file__).parent
METHODS = ("search", "match", "fullmatch", "sub", "findall", "finditer", "split", "compile")
"""The functions of `re` that take a pattern."""
MOST_CHARACTERS = 12
"""Characters of one pattern that texts are made of, one for each of its classes."""
MOST_REPEATS = 8
"""Of a bounded repetition so many are written into a near match at the most."""


@dataclass(frozen=True)
class Used:
    """A pattern, and how it is used."""

    where: str
    """File and line."""
    pattern: str
    """The regular expression; of bytes as Latin-1."""
    flags: int
    """Flags of `re`."""
    method: str
    """search, match or fullmatch; sub and the like search."""
    longest: int = 1 << 30
    """Characters of a text that it is held against at the most, where that is looked at before."""

    def run(self, text: str) -> None:
        """Use it once."""
        compiled = re.compile(self.pattern, self.flags)
        if self.method in ("match", "fullmatch"):
            getattr(compiled, self.method)(text)
        elif self.method == "search":
            compiled.search(text)
        else:
            for _ in compiled.finditer(text):
                pass


# --- where they are -------------------------------------------------------------------------------


def used() -> list[Used]:
    """All of them; each once."""
    found = [one for module in modules() for one in of_module(module)]
    unique = {(one.pattern, one.flags, one.method): one for one in found}
    return list(unique.values())


def modules() -> Iterator[ModuleType]:
    """Every module of the operator."""
    for info in pkgutil.walk_packages([str(ROOT)], "goservice."):
        if not info.name.endswith("__main__"):
            yield importlib.import_module(info.name)


class UnknownError(Exception):
    """A pattern that the code does not tell: its file and line."""


def of_module(module: ModuleType) -> Iterator[Used]:
    """The patterns that a module gives to `re`, and those of its tables."""
    file = Path(str(module.__file__))
    tree = ast.parse(file.read_text())
    name = file.relative_to(ROOT).as_posix()
    for value in vars(module).values():
        for sign in value if isinstance(value, tuple) else ():
            if isinstance(sign, Sign):
                yield Used(f"{name} (a sign)", sign.pattern, 0, "search")
    for value in vars(module).values():
        yield from of_field(name, value)
    compiled = {key: value for key, value in vars(module).items() if isinstance(value, re.Pattern)}
    for function, call in calls(tree):
        assert isinstance(call.func, ast.Attribute)
        base = call.func.value
        where = f"{name}:{call.lineno}"
        if isinstance(base, ast.Name) and base.id in compiled:
            yield of_compiled(where, compiled[base.id], call.func.attr)
        elif isinstance(base, ast.Name) and base.id == "re" and call.func.attr != "compile":
            flags = flags_of(call, module)
            for pattern in patterns_of(call.args[0], function, module, where):
                yield Used(where, pattern, flags, call.func.attr)
        elif call.func.attr == "says":
            for pattern in patterns_of(call.args[0], function, module, where):
                yield Used(where, pattern, 0, "search")


def of_field(name: str, value: object) -> Iterator[Used]:
    """The patterns of a kind of field."""
    if isinstance(value, fields.Text):
        yield Used(f"{name} (a field)", value.pattern, 0, "fullmatch", value.longest)
        if value.never:
            yield Used(f"{name} (a field)", value.never, 0, "search", value.longest)
    elif isinstance(value, fields.NumberOrText):
        yield Used(f"{name} (a field)", value.pattern, 0, "fullmatch", value.longest)
    for each in getattr(value, "__metadata__", ()):
        yield from of_field(name, each)


def calls(tree: ast.AST, function: ast.AST | None = None) -> Iterator[tuple[ast.AST, ast.Call]]:
    """Calls of methods that may take a pattern, each with the function that it stands in."""
    for node in ast.iter_child_nodes(tree):
        inside = node if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in (*METHODS, "says")
        ):
            yield inside or tree, node
        yield from calls(node, inside)


def of_compiled(where: str, pattern: re.Pattern[Any], method: str) -> Used:
    text = pattern.pattern
    text = text.decode("latin-1") if isinstance(text, bytes) else text
    return Used(where, text, pattern.flags & ~re.UNICODE, method)


def flags_of(call: ast.Call, module: ModuleType) -> int:
    """The flags that a call gives."""
    assert isinstance(call.func, ast.Attribute)
    place = 4 if call.func.attr == "sub" else 3 if call.func.attr == "split" else 2
    given = [*call.args[place:], *(k.value for k in call.keywords if k.arg == "flags")]
    return int(evaluated(given[0], module)) if given else 0


def evaluated(node: ast.expr, module: ModuleType, local: Mapping[str, Any] | None = None) -> Any:
    """What an expression is, from the names of its module."""
    return eval(compile(ast.Expression(node), "", "eval"), dict(vars(module)), dict(local or {}))


def patterns_of(node: ast.expr, function: ast.AST, module: ModuleType, where: str) -> Iterator[str]:
    """What the first argument of a call may be; a name in a loop over a table is each of its rows."""
    if isinstance(node, ast.Attribute):
        return  # a field's or a sign's own pattern, which is found where it is written
    for local in locals_of(function, module):
        try:
            found = evaluated(node, module, local)
        except NameError:
            continue
        yield found.decode("latin-1") if isinstance(found, bytes) else found
        return
    if isinstance(node, ast.Name):
        rows = list(rows_of(node.id, function, module))
        if rows:
            yield from rows
            return
        if isinstance(function, ast.FunctionDef) and node.id in {a.arg for a in function.args.args}:
            return  # whoever calls it says which
    raise UnknownError(where)


LOCALS: tuple[Mapping[str, Any], ...] = (
    {},
    {"service": type("S", (), {"name": "checkout"})(), "release": "v3.16"},
)
"""Names of functions that patterns are made with, and what they may be."""


def locals_of(function: ast.AST, module: ModuleType) -> Iterator[Mapping[str, Any]]:
    """What the names in a function may be."""
    yield from LOCALS


def rows_of(name: str, function: ast.AST, module: ModuleType) -> Iterator[str]:
    """What a name is in a loop (or comprehension) over a table of tuples."""
    for node in ast.walk(function):
        if not isinstance(node, ast.For | ast.comprehension):
            continue
        targets = node.target.elts if isinstance(node.target, ast.Tuple) else [node.target]
        for place, target in enumerate(targets):
            if not (isinstance(target, ast.Name) and target.id == name):
                continue
            if isinstance(node.iter, ast.Tuple):
                cells = [row.elts[place] for row in node.iter.elts if isinstance(row, ast.Tuple)]
                yield from (str(evaluated(cell, module)) for cell in cells)
            else:
                for row in evaluated(node.iter, module):
                    yield str(row[place] if isinstance(row, tuple) else row)


# --- what is slow ---------------------------------------------------------------------------------


def texts(used: Used) -> Iterator[tuple[str, Callable[[int], str]]]:
    """Texts of a length that nearly match, by what they are made of."""
    tree = parser.parse(used.pattern, used.flags)
    letters = list(dict.fromkeys(characters(tree)))[:MOST_CHARACTERS] or ["x"]
    pieces = [*letters]
    pieces += [one + other for one in letters[:5] for other in letters[:5] if one != other]
    samples = list(dict.fromkeys(sample(tree, choice) for choice in range(6)))
    pieces += [one for near in samples for one in (near, near[:-1] + "~", near + "\n")]
    for piece in dict.fromkeys(filter(None, pieces)):
        yield f"{piece!r} again and again", lambda n, piece=piece: (piece * n)[: n - 1] + "\0"  # type: ignore[misc]
    for before, piece in dict.fromkeys(pumps(tree)):
        yield (
            f"{piece!r} again and again after {before!r}",
            lambda n, before=before, piece=piece: (before + piece * n)[: n - 1] + "\0",  # type: ignore[misc]
        )


def characters(tree: Any) -> Iterator[str]:
    """One character for each literal and class."""
    for code, what in tree:
        one = character(code, what)
        if one:
            yield one
        for below in subtrees(code, what):
            yield from characters(below)


def character(code: Any, what: Any) -> str:
    """A character that a node of one character takes; empty for other nodes."""
    if code is codes.LITERAL:
        return chr(what)
    if code is codes.NOT_LITERAL:
        return "a" if what != ord("a") else "b"
    if code is codes.ANY:
        return "a"
    if code is codes.IN:
        negated = what[0][0] is codes.NEGATE
        if negated:
            taken = re.compile("[" + "".join(written(*item) for item in what[1:]) + "]")
            return next(c for c in "a0 -/.:\"'<xyz" if not taken.match(c))
        first = what[0]
        if first[0] is codes.RANGE:
            return chr(first[1][0])
        if first[0] is codes.CATEGORY:
            return {codes.CATEGORY_DIGIT: "0", codes.CATEGORY_SPACE: " "}.get(first[1], "a")
        return chr(first[1])
    return ""


def written(code: Any, what: Any) -> str:
    """An item of a class, as a class has it."""
    if code is codes.RANGE:
        return f"{re.escape(chr(what[0]))}-{re.escape(chr(what[1]))}"
    if code is codes.CATEGORY:
        names = {
            codes.CATEGORY_DIGIT: r"\d", codes.CATEGORY_SPACE: r"\s", codes.CATEGORY_WORD: r"\w",
            codes.CATEGORY_NOT_DIGIT: r"\D", codes.CATEGORY_NOT_SPACE: r"\S", codes.CATEGORY_NOT_WORD: r"\W",
        }  # fmt: skip
        return names[what]
    return re.escape(chr(what))


REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT)
"""Nodes that repeat what is below them."""


def subtrees(code: Any, what: Any) -> list[Any]:
    """What is below a node."""
    if code in REPEATS:
        return [what[2]]
    if code is codes.SUBPATTERN:
        return [what[3]]
    if code is codes.BRANCH:
        return list(what[1])
    if code in (codes.ASSERT, codes.ASSERT_NOT):
        return [what[1]]
    if code is codes.ATOMIC_GROUP:
        return [what]
    return []


def sample(tree: Any, choice: int) -> str:
    """A text that the tree matches, or nearly; of alternatives the one of this number."""
    parts = []
    for code, what in tree:
        if code in REPEATS:
            least, most, below = what
            times = min(max(least, 2), MOST_REPEATS if most is codes.MAXREPEAT else int(most))
            parts.append(sample(below, choice) * times)
        elif code is codes.BRANCH:
            parts.append(sample(what[1][choice % len(what[1])], choice))
        elif code is codes.ASSERT_NOT:
            continue
        elif below := subtrees(code, what):
            parts.append(sample(below[0], choice))
        else:
            parts.append(character(code, what))
    return "".join(parts)


def pumps(tree: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """What stands before a repetition, and what it repeats."""
    for place, (code, what) in enumerate(tree):
        lead = before + sample(list(tree)[:place], 0)
        if code in REPEATS and what[1] is not codes.MAXREPEAT and int(what[1]) <= 1:
            yield from pumps(what[2], lead)
        elif code in REPEATS:
            yield lead, sample(what[2], 0) or "a"
            yield from pumps(what[2], lead)
        else:
            for below in subtrees(code, what):
                yield from pumps(below, lead)
