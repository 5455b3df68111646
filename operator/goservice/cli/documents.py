"""YAML from people: read in bounded memory, and every way not to be YAML told by its line.

YAML can name a part again (`*name`), and the part that names parts: 450 bytes stand for gigabytes,
or for a part that holds itself. PyYAML builds what it is told. So each document is looked at as a
tree of nodes first, and made into values only if it is small when all its names are followed.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Any

import yaml
from typing_extensions import override

from goservice.api import resource
from goservice.errors import GoServiceError

MOST_NODES = 100_000
"""Values of one document at the most, every alias counted as what it stands for."""

DEEPEST = 100
"""Levels of lists and mappings inside each other at the most; a GoService has 12."""

MOST_DIGITS = 1000
"""Characters of a plain number at the most: Python takes a square of time for a long one."""


class NotYAML(GoServiceError):
    """A text that is not YAML, or more than anybody writes; the message begins with `:line:column: `."""


class _Loader(yaml.SafeLoader):
    """PyYAML's loader of plain values, which stops where a document gets too large or too deep."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.depth = 0
        self.count = 0

    def _here(self) -> yaml.Mark:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        mark: yaml.Mark = event.start_mark
        return mark

    @override
    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        self.count += 1
        if self.depth > DEEPEST:
            raise _at(self._here(), f"is nested deeper than {DEEPEST} levels")
        if self.count > MOST_NODES:
            raise _at(self._here(), f"has more than {MOST_NODES} values")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def read(data: bytes) -> Iterator[Any]:
    """Each document that is not empty, as plain values.

    Raises:
        NotYAML: with the place, as compilers name it.
    """
    if not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            data.decode()
        except UnicodeDecodeError as error:
            raise NotYAML(
                f"{_place(data[: error.start])}: is not UTF-8: byte 0x{data[error.start]:02x};"
                " save it as UTF-8"
            ) from None
    try:
        loader = _Loader(data)
        while loader.check_node():
            loader.count = 0
            node = loader.get_node()
            assert node is not None
            _check(node)
            document = _built(loader, node)
            if document is not None:
                yield document
    except yaml.reader.ReaderError as error:
        before = data.decode(error.encoding if "utf" in error.encoding else "utf-8", "replace")
        found = f"U+{error.character:04X}" if isinstance(error.character, int) else error.reason
        raise NotYAML(
            f"{_place(before[: error.position].encode())}: is not YAML:"
            f" unacceptable character {found}"
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise NotYAML(f"{place}: is not YAML: {error.problem}") from None
    except RecursionError:
        raise NotYAML(f": is nested deeper than {DEEPEST} levels") from None


def _built(loader: _Loader, node: yaml.Node) -> Any:
    """The values of a document; PyYAML raises anything at all for a value that its own tag belies."""
    try:
        return loader.construct_document(node)
    except yaml.YAMLError:
        raise
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
        raise _at(node.start_mark, f"is not YAML: a value is none of its type: {error}") from None


def _check(root: yaml.Node) -> None:
    """Refuse a document that is too large with its aliases, holds itself, or says a thing twice."""
    measured: dict[int, tuple[int, int]] = {}
    around: set[int] = set()
    strict = _kind(root) == resource.KIND

    def measure(node: yaml.Node) -> tuple[int, int]:
        """How many values a node stands for, and how many levels, with every alias in full."""
        if id(node) in around:
            raise _at(node.start_mark, "holds itself: an alias names what it is a part of")
        if id(node) in measured:
            return measured[id(node)]
        around.add(id(node))
        values = levels = 0
        for part in _parts(node, strict):
            more, deep = measure(part)
            values, levels = values + more, max(levels, deep)
        around.discard(id(node))
        found = values + 1, levels + 1
        if found[0] > MOST_NODES:
            what = f"has more than {MOST_NODES} values"
        elif found[1] > DEEPEST:
            what = f"is nested deeper than {DEEPEST} levels"
        else:
            measured[id(node)] = found
            return found
        raise _at(node.start_mark, f"{what}, with every alias in full; write it without aliases")

    measure(root)


def _parts(node: yaml.Node, strict: bool) -> Iterator[yaml.Node]:
    """What a node consists of; it is refused if it has a key twice (`strict`) or an endless number."""
    if isinstance(node, yaml.MappingNode):
        keys: set[tuple[str, str]] = set()
        for key, value in node.value:
            if strict and isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in keys:
                    raise _at(key.start_mark, f"is not YAML: the key {key.value!r} is there twice")
                keys.add((key.tag, key.value))
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif node.tag.endswith((":int", ":float")) and len(node.value) > MOST_DIGITS:
        raise _at(node.start_mark, f"is a number of more than {MOST_DIGITS} digits")


def _kind(root: yaml.Node) -> str:
    """The kind that a document says it is; empty if it says none."""
    if isinstance(root, yaml.MappingNode):
        for key, value in root.value:
            if key.value == "kind" and isinstance(value, yaml.ScalarNode):
                return str(value.value)
    return ""


def _at(mark: yaml.Mark, problem: str) -> NotYAML:
    return NotYAML(f":{mark.line + 1}:{mark.column + 1}: {problem}")


def _place(before: bytes) -> str:
    """Where a text goes on, by what stands before."""
    return f":{before.count(10) + 1}:{len(before) - before.rfind(10)}"
