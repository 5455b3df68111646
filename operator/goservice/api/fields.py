"""What every field of the resource is made of: bounded text, quantities, rules.

A type here gives the CRD its schema and Python its check from one definition, so that the API
server and `goservice validate` refuse the same things. It knows nothing of GoServices.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from typing_extensions import override

from goservice.quantity import LARGEST, QUANTITY

SEGMENT = r"\.?[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*"
"""One part of a path: `..`, `.` and the empty part are none."""

HOST = r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?"
"""A host's name or IPv4 address, with or without a port."""

REPOSITORY = r"([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?/)?[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"
"""An image repository, with or without a registry's host, as container runtimes parse it."""

PLACEHOLDERS = ("COMMIT", "REVISION", "INPUTS", "NAME", "NAMESPACE")
"""What $(…) may name in a tag or a variable's value; `names.expand` fills them in."""


@dataclass(frozen=True)
class Rule:
    """One rule over several fields, in CEL for the API server and in Python for everyone else."""

    cel: str
    """The rule as the API server evaluates it; `self` is the model."""
    message: str
    """What the field must be, to be read after its path."""
    holds: Callable[[Any], bool]
    """The same rule on the parsed model."""
    path: str = ""
    """The field that the message is about, relative to the model (`maxUnavailable`)."""


class Model(BaseModel):
    """A part of the resource: immutable, camelCase outside, unknown fields refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
        regex_engine="rust-regex",
    )
    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    @override
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        reference = handler(core)
        if cls.rules:
            handler.resolve_ref_schema(reference)["x-kubernetes-validations"] = [
                {"rule": rule.cel, "message": rule.message}
                | ({"fieldPath": f".{rule.path}"} if rule.path else {})
                for rule in cls.rules
            ]
        return reference

    @model_validator(mode="after")
    def _obey_rules(self) -> Self:
        broken = [rule for rule in self.rules if not rule.holds(self)]
        if broken:
            faults = [(rule.path, rule.message) for rule in broken]
            message = "; ".join(rule.message for rule in broken)
            raise PydanticCustomError("rules", "{message}", {"message": message, "faults": faults})
        return self


@dataclass(frozen=True)
class Text:
    """A bounded string; `allowed` completes "must be …" in the error."""

    pattern: str
    """A regular expression that the whole text must match, in RE2's syntax and Python's alike."""
    longest: int
    """Characters at the most."""
    allowed: str
    """What the text must be, in words."""
    never: str = ""
    """A regular expression that no part of the text may match, in the same syntax; empty: none."""
    letters: str = ""
    """A character class of what the text may hold, so that an error names what it may not."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        rule = f"self.{matches(self.pattern)}"
        if self.never:
            rule += f" && !self.{matches(self.never, whole=False)}"
        return {
            "type": "string",
            "maxLength": self.longest,
            "x-kubernetes-validations": [{"rule": rule, "message": f"must be {self.allowed}"}],
        }

    def _check(self, value: str) -> str:
        if len(value) > self.longest:
            bounds = {"n": self.longest, "m": len(value)}
            raise PydanticCustomError("text", "must be at most {n} characters, has {m}", bounds)
        unfit = self.never and re.search(self.never, value)
        if unfit or not re.fullmatch(self.pattern, value):
            words = {"allowed": self.allowed, "value": shown(value), "why": self._why(value)}
            raise PydanticCustomError("text", "must be {allowed}, not {value}{why}", words)
        return value

    def _why(self, value: str) -> str:
        """What of a value does not fit, where that can be told in a word."""
        odd = next((c for c in value if self.letters and not re.match(self.letters, c)), "")
        if odd:
            return f" (it has {shown(odd)})"
        found = re.search(self.never, value) if self.never else None
        if not found or found[0] in ("", value):
            return ""
        at_end = "ends with" if found.end() == len(value) else "has"
        return f" (it {at_end if found.start() else 'begins with'} {shown(found[0])})"


@dataclass(frozen=True)
class Reserved:
    """Marks a field of the status that nothing writes yet.

    A field of a served version stays in the CRD; the docs leave it out, and its own description
    says that nothing writes it. The first writer takes the mark off.
    """


def matches(pattern: str, *, whole: bool = True) -> str:
    """The call of CEL that tells whether a text, or a part of it, is as a pattern has it.

    The schema's own `pattern` would do, but for its words: "should match" and the expression.
    """
    pattern = re.sub(r"\\u([0-9a-f]{4})", r"\\x{\1}", pattern)  # as RE2 writes it
    quote = '"' if "'" in pattern else "'"
    return f"matches(r{quote}{f'^({pattern})$' if whole else pattern}{quote})"


@dataclass(frozen=True)
class NumberOrText:
    """A whole number within bounds or a text; `allowed` completes "must be …" in the error."""

    lowest: int
    """The least number."""
    highest: int
    """The largest number."""
    pattern: str
    """A regular expression that the whole text must match, in RE2's syntax and Python's alike."""
    longest: int
    """Characters of the text at the most."""
    allowed: str
    """What the value must be, in words."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            "maxLength": self.longest,
            "x-kubernetes-validations": [
                {
                    "rule": f"type(self) == int ? self >= {self.lowest} && self <= {self.highest}"
                    f" : self.{matches(self.pattern)}",
                    "message": f"must be {self.allowed}",
                }
            ],
        }

    def _check(self, value: object) -> object:
        if isinstance(value, bool):
            fits = False
        elif isinstance(value, int):
            fits = self.lowest <= value <= self.highest
        else:
            short = isinstance(value, str) and len(value) <= self.longest
            fits = short and bool(re.fullmatch(self.pattern, str(value)))
        if not fits:
            words = {"allowed": self.allowed, "value": shown(value)}
            raise PydanticCustomError("text", "must be {allowed}, not {value}", words)
        return value


@dataclass(frozen=True)
class OneOf:
    """A string out of a long closed list; `what` completes "must be …" in the error."""

    values: tuple[str, ...]
    """The closed list."""
    what: str
    """What the value must be, in words."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.values)}

    def _check(self, value: str) -> str:
        if value not in self.values:
            near = [v for v in self.values if value and value.lower() in v.lower()][:3]
            hint = f" (did you mean {' or '.join(near)}?)" if near else ""
            words = {"what": self.what, "value": shown(value), "hint": hint}
            raise PydanticCustomError("enum", "must be {what}, not {value}{hint}", words)
        return value


def shown(value: object) -> str:
    """A user's value inside a message: escaped, and cut after 60 characters."""
    written = ascii(value) if isinstance(value, str) else repr(value)
    return written if len(written) <= 60 else written[:56] + "…" + written[-1]


def listing(keys: tuple[str, ...] = (), **bounds: Any) -> Any:
    """Bounds and list type of a list field; with `keys` a map list, else atomic."""
    extra: dict[str, Any] = {"x-kubernetes-list-type": "map" if keys else "atomic"}
    if keys:
        extra["x-kubernetes-list-map-keys"] = list(keys)
    return Field(json_schema_extra=extra, **bounds)


def distinct(items: list[str]) -> list[str]:
    """A check that no text of a list is there twice."""
    for item in items:
        if items.count(item) > 1:
            raise PydanticCustomError(
                "unique", "must not name {value} twice", {"value": shown(item)}
            )
    return items


def unique(field: str, *, optional: bool = False) -> Callable[[list[Any]], list[Any]]:
    """A check that no two items of a list have the same value in a field."""

    def check(items: list[Any]) -> list[Any]:
        values = [getattr(item, field) for item in items]
        seen = [v for v in values if not (optional and v is None)]
        if len(seen) != len(set(seen)):
            twice = next(v for v in seen if seen.count(v) > 1)
            raise PydanticCustomError(
                "unique",
                "must not name {field} {value} twice",
                {"field": field, "value": shown(twice)},
            )
        return items

    return check


Quantity = Annotated[
    str,
    NumberOrText(0, LARGEST, QUANTITY, 32, "a quantity such as 500m, 1 or 256Mi"),
    BeforeValidator(str),
]

IntOrPercent = Annotated[
    int | str,
    NumberOrText(
        0,
        1000,
        r"([0-9]|[1-9][0-9]|100)%",
        32,
        "a whole number from 0 to 1000 or a percentage such as 25%",
    ),
]

PORT_NAME = r"[a-z](-?[a-z0-9])*"
"""What the Service Name Registry takes: no two hyphens in a row."""

PortOrName = Annotated[
    int | str,
    NumberOrText(1, 65535, PORT_NAME, 15, "a port number from 1 to 65535 or the name of a port"),
]

SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
"""A DNS subdomain (RFC 1123), as names of most Kubernetes objects are."""

ObjectName = Annotated[
    str,
    Text(
        SUBDOMAIN,
        253,
        "a Kubernetes object name (lower case letters, digits, - and .)",
    ),
]

PortName = Annotated[
    str,
    Text(
        PORT_NAME,
        15,
        "a port name (lower case letters, digits and single -, at most 15, starting with a letter)",
    ),
]

ImageRepository = Annotated[
    str,
    Text(
        REPOSITORY,
        255,
        "an image repository without tag or digest, such as registry.example.com/shop/checkout",
    ),
]

ImageReference = Annotated[
    str,
    Text(
        REPOSITORY + r"(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?",
        512,
        "an image reference, such as alpine:3.24 or registry.example.com/base@sha256:…",
    ),
]

Digest = Annotated[
    str, Text(r"sha256:[0-9a-f]{64}", 71, "a digest: sha256: and 64 lower case hex digits")
]


def _ipv6() -> str:
    """An IPv6 address in brackets, in all its forms but those that end as IPv4 addresses do."""
    part = "[0-9A-Fa-f]{1,4}"
    forms = [f"({part}:){{7}}{part}", f"({part}:){{1,7}}:", f":((:{part}){{1,7}}|:)"]
    forms += [f"({part}:){{1,{7 - n}}}(:{part}){{1,{n}}}" for n in range(1, 7)]
    return rf"\[({'|'.join(forms)})\]"


_URL_PART = r"\.?([A-Za-z0-9_~+-]|%[0-9A-Fa-f]{2})([A-Za-z0-9._~+-]|%[0-9A-Fa-f]{2})*"
"""One part of a URL's path: `..`, `.` and the empty part are none."""


def _plain_url(url: str) -> str:
    """A URL with its scheme in lower case, as git must have it."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme.lower()}{separator}{rest}"


GitURL = Annotated[
    str,
    Text(
        rf"[Hh][Tt][Tt][Pp][Ss]?://([A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?|{_ipv6()})(:[0-9]{{1,5}})?"
        rf"(/{_URL_PART})+/?",
        512,
        "an http(s) URL of a git repository without user, password, query or '..'",
        never=r"%(0[0-9A-Fa-f]|1[0-9A-Fa-f]|2[5EFef]|5[Cc]|7[Ff])",
        letters=r"[A-Za-z0-9._~+:/%\[\]-]",
    ),
    AfterValidator(_plain_url),
]

_UNSEEN = r"\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"
"""Characters that nobody sees, or that turn what is seen around."""
_OF_REVISION = rf"[^\x00-\x20{_UNSEEN}~^:?*$\[\\]"
"""What git takes in a name, but for $: Kubernetes expands $(NAME) in a container's arguments."""

Revision = Annotated[
    str,
    Text(
        rf"[^\x00-\x20{_UNSEEN}~^:?*$\[\\/.-]{_OF_REVISION}*",
        200,
        "a branch, a tag, a full commit of 40 hex digits, or refs/…, as git check-ref-format has it"
        " and without $",
        never=r"^[-/.]|\.\.|@\{|//|/\.|\.lock/|\.lock$|[/.]$|^@$",
        letters=_OF_REVISION,
    ),
]


def _plain_path(path: str) -> str:
    """A path without what means nothing: a leading ./ and a trailing slash."""
    return path.removeprefix("./").rstrip("/") or "."


RepositoryPath = Annotated[
    str,
    Text(
        rf"\./?|(\./)?{SEGMENT}(/{SEGMENT})*/?",
        255,
        "a path below the repository's root, without a leading / or ..",
        letters=r"[A-Za-z0-9_@+./-]",
    ),
    AfterValidator(_plain_path),
]

Package = Annotated[
    str, Text(rf"\.|\./{SEGMENT}(/{SEGMENT})*", 255, "a package path such as . or ./cmd/checkout")
]

AbsolutePath = Annotated[str, Text(rf"(/{SEGMENT})+", 255, "an absolute path without ..")]

Binary = Annotated[
    str, Text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", 63, "a file name of letters, digits, ., _ and -")
]

BuildTag = Annotated[
    str, Text(r"[A-Za-z0-9_][A-Za-z0-9_.]{0,63}", 64, "a Go build tag of letters, digits, _ and .")
]

PackageName = Annotated[
    str,
    Text(
        r"[a-z0-9][a-z0-9+._-]{0,63}",
        64,
        "a package name of lower case letters, digits, +, ., _ and -",
    ),
]

MirrorURL = Annotated[
    str,
    Text(
        r"https?://" + HOST + rf"(/{SEGMENT})*/?",
        255,
        "an http(s) URL without user, password or query",
    ),
]

_PROXY = r"(https?://" + HOST + rf"(/{SEGMENT})*/?|direct|off)"
"""One entry of a GOPROXY list."""

ModuleProxy = Annotated[
    str,
    Text(
        rf"{_PROXY}([,|]{_PROXY})*",
        512,
        "a GOPROXY list: http(s) URLs, direct or off, separated by , or |",
    ),
]

VariableName = Annotated[
    str,
    Text(
        r"[A-Za-z0-9_][A-Za-z0-9_./~-]*\.[A-Za-z_][A-Za-z0-9_]*",
        255,
        "a package path and a variable, such as main.version",
    ),
]

_PLACEHOLDER = r"\$\((" + "|".join(PLACEHOLDERS) + r")\)"
"""One placeholder in a text."""

_ALLOWED = ", ".join(f"$({name})" for name in PLACEHOLDERS)
"""The placeholders, as messages name them."""

VariableValue = Annotated[
    str,
    Text(
        rf"([A-Za-z0-9 ._:/@+,=~#-]|{_PLACEHOLDER})*",
        512,
        f"letters, digits, spaces, ._:/@+,=~#- and the placeholders {_ALLOWED}",
    ),
]

Tag = Annotated[
    str,
    Text(
        rf"([A-Za-z0-9_]|{_PLACEHOLDER})([A-Za-z0-9_.-]|{_PLACEHOLDER})*",
        128,
        f"an image tag, in which these placeholders stand: {_ALLOWED}",
    ),
]

UserName = Annotated[
    str,
    Text(
        r"[a-z_][a-z0-9_-]{0,31}",
        32,
        "a Unix user name (lower case letters, digits, _ and -, at most 32)",
    ),
]

EnvName = Annotated[str, Text(r"[A-Za-z_.-][A-Za-z0-9_.-]*", 255, "an environment variable name")]

TimeZone = Annotated[
    str,
    OneOf(
        tuple(sorted(resources.files("tzdata").joinpath("zones").read_text().split())),
        "a name of the IANA time zone database, such as Europe/Paris",
    ),
]
