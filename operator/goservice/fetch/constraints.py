"""Which Go files a build takes: by their build constraints, their names and cgo, as go/build has it.

Builds run for Linux, by Go's own compiler, without cgo. What the architecture and the builder's
version of Go decide is not known here: such a file counts, and Go has the last word.
"""

from __future__ import annotations

import re
from collections.abc import Collection

SYSTEMS = frozenset(
    [
        "aix",
        "android",
        "darwin",
        "dragonfly",
        "freebsd",
        "hurd",
        "illumos",
        "ios",
        "js",
        "linux",
        "nacl",
        "netbsd",
        "openbsd",
        "plan9",
        "solaris",
        "wasip1",
        "windows",
        "zos",
    ]
)
"""GOOS values: a file of this suffix, or a constraint of this word, is for that system."""
ARCHITECTURES = frozenset(
    [
        "386",
        "amd64",
        "amd64p32",
        "arm",
        "arm64",
        "arm64be",
        "armbe",
        "loong64",
        "mips",
        "mips64",
        "mips64le",
        "mips64p32",
        "mips64p32le",
        "mipsle",
        "ppc",
        "ppc64",
        "ppc64le",
        "riscv",
        "riscv64",
        "s390",
        "s390x",
        "sparc",
        "sparc64",
        "wasm",
    ]
)
"""GOARCH values."""
BUILT_FOR = frozenset({"amd64", "arm64"})
"""Architectures of nodes that builders and bases are published for."""

_LINE = re.compile(r"^//go:build[ \t]+([^\r\n]{1,1000})", re.MULTILINE)
"""A build constraint."""
_OLD_LINE = re.compile(r"^//[ \t]*\+build[ \t]+([^\r\n]{1,1000})", re.MULTILINE)
"""A build constraint as Go had it before 1.17: spaces mean or, commas and."""
_WORD = re.compile(r"&&|\|\||[()!]|[\w.]+")
"""A word of a //go:build line."""
_IMPORTS_C = re.compile(
    r'^import[ \t]+(?:[\w.]+[ \t]+)?"C"|^[ \t]+"C"[ \t]*(?://[^\n]*)?$', re.MULTILINE
)
"""An import of cgo, alone or in a list."""


def takes(name: str, lead: str, tags: Collection[str]) -> bool:
    """Whether a build takes a file of this name whose package clause comes after `lead`."""
    return _name_holds(name) and _constraint_holds(lead, tags)


def imports_c(text: str) -> bool:
    """Whether a file needs cgo."""
    return bool(_IMPORTS_C.search(text))


def _name_holds(name: str) -> bool:
    """The suffixes _GOOS, _GOARCH and _GOOS_GOARCH; a name that is nothing else has none."""
    parts = name.removesuffix(".go").split("_")[1:]
    if parts[-1:] and parts[-1] in ARCHITECTURES:
        if parts.pop() not in BUILT_FOR:
            return False
        return not (parts and parts[-1] in SYSTEMS) or parts[-1] == "linux"
    return not (parts and parts[-1] in SYSTEMS) or parts[-1] == "linux"


def _constraint_holds(lead: str, tags: Collection[str]) -> bool:
    found = _LINE.search(lead)
    if found:
        try:
            return _Expression(found[1], tags).value() is not False
        except (IndexError, RecursionError):
            return True  # no expression: Go tells of it
    return all(
        any(
            all(
                _of_word(word.removeprefix("!"), tags) is not word.startswith("!")
                for word in option.split(",")
            )
            for option in line.split()
        )
        for line in _OLD_LINE.findall(lead)
    )


def _of_word(word: str, tags: Collection[str]) -> bool | None:
    """Whether a word holds; None where only the builder knows."""
    if word in tags or word in ("linux", "unix", "gc"):
        return True
    if word in BUILT_FOR or re.fullmatch(r"go1\.\d{1,4}", word):
        return None
    return False


class _Expression:
    """A //go:build line, by Go's grammar; None is a value that is not known."""

    def __init__(self, text: str, tags: Collection[str]) -> None:
        self._words = _WORD.findall(text.partition("//")[0])
        self._tags = tags
        self._next = 0

    def value(self) -> bool | None:
        return self._or()

    def _or(self) -> bool | None:
        values = [self._and()]
        while self._take("||"):
            values.append(self._and())
        return True if True in values else None if None in values else False

    def _and(self) -> bool | None:
        values = [self._not()]
        while self._take("&&"):
            values.append(self._not())
        return False if False in values else None if None in values else True

    def _not(self) -> bool | None:
        if self._take("!"):
            value = self._not()
            return None if value is None else not value
        if self._take("("):
            value = self._or()
            self._take(")")
            return value
        word = self._words[self._next]
        self._next += 1
        return _of_word(word, self._tags)

    def _take(self, word: str) -> bool:
        here = self._words[self._next : self._next + 1] == [word]
        self._next += here
        return here
