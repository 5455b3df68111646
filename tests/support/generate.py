"""Strategies for resources, made from the types of the spec: a new field is generated as it comes.

Every example sets one leaf of the schema that was chosen on purpose, so that rare ones come as
often as the others. Texts are anything that the type's pattern takes. Only what several fields have
to agree on is said here by hand; a leaf that this cannot set fails a test.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from annotated_types import Ge, Le, MaxLen, MinLen
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from goservice.api import autoscaling, build, container, crd, resource
from goservice.api.fields import Model, NumberOrText, OneOf, Text
from tests.support import matching

Draw = st.DrawFn
"""Draws a value, within one of hypothesis' composites."""
Path = tuple[str, ...]
"""A place in the schema: field names, `[]` for an item of a list, `{}` for a value of a map."""

HOSTILE = (
    "x\nRUN id", "x\r\nFROM evil", "$(HOME)", "${PATH}", "$HOME", "`id`", "a;id", "a && id", '"]',
    "\\", "x\\", "--from=evil", "-o", "a b", "'", "..", "../..", "/etc/passwd", "\u2028RUN id", "\0",
    "#", "x\n", "$(COMMIT)\n", "{{ x }}", "{% x %}", "{{7*7}}", "builder", "<<EOF", "ext::sh -c id",
    "file:///etc/passwd", "https://u:p@example.com/a", "\t", "\x1b[2J", "a" * 600, "", ".", "/", "-",
    "$(INPUTS)", "scratch", "--privileged", "a,b", "a=b", "\u202ea", "é",
)  # fmt: skip
"""Texts that try to end a string, a line, an argument or a path."""

ONE_OF: Mapping[type[Model], Path] = {
    container.EnvSource: ("configMapKeyRef", "secretKeyRef", "fieldRef", "resourceFieldRef"),
    container.EnvFrom: ("configMapRef", "secretRef"),
    container.Probe: ("httpGet", "tcpSocket", "grpc", "exec"),
    container.StoppingProbe: ("httpGet", "tcpSocket", "grpc", "exec"),
    container.EnvVar: ("value", "valueFrom"),
    autoscaling.ShareTarget: ("averageValue", "averageUtilization"),
    autoscaling.ValueTarget: ("value", "averageValue"),
    build.BuildCache: ("claimName", "size"),
    autoscaling.Metric: ("resource", "containerResource", "pods", "object", "external"),
}
"""Fields that exclude each other: one of them is set."""
ATTEMPTS = 12
"""How many values of a model are drawn until one keeps the rules that span its fields."""
NUMBERS = st.integers(0, matching.LONG + (matching.LONG >> 5))
"""Numbers of texts (see `matching`); one in about thirty asks for the longest."""


@cache
def leaves() -> tuple[Path, ...]:
    """Every leaf of the CRD's spec."""
    return tuple(_leaves(crd.schema(resource.Spec)))


def _leaves(node: Mapping[str, Any], path: Path = ()) -> Iterator[Path]:
    below: dict[str, Mapping[str, Any]] = dict(node.get("properties", {}))
    for key, name in (("items", "[]"), ("additionalProperties", "{}")):
        if key in node:
            below[name] = node[key]
    if not below:
        yield path
    for name, inner in below.items():
        yield from _leaves(inner, (*path, name))


def resources() -> st.SearchStrategy[dict[str, Any]]:
    """Whole resources, as the API server stores them; nearly all are accepted."""
    return st.sampled_from(leaves()).flatmap(with_leaf)


@cache
def with_leaf(must: Path) -> st.SearchStrategy[dict[str, Any]]:
    """Resources that set this leaf."""
    return _with_leaf(must)


@st.composite
def _with_leaf(draw: Draw, must: Path) -> dict[str, Any]:
    return {
        "apiVersion": resource.API_VERSION,
        "kind": resource.KIND,
        "metadata": {
            "name": draw(NAMES),
            "namespace": draw(NAMESPACES),
            "uid": "7b3c6f0e-0000-4000-8000-000000000001",
            "generation": 1,
            "annotations": draw(ANNOTATIONS),
        },
        "spec": draw(model(resource.Spec, must)),
    }


@st.composite
def pairs(draw: Draw) -> tuple[dict[str, Any], dict[str, Any]]:
    """A resource, and the same with one or two texts of somebody with bad intentions."""
    made = draw(resources())
    poisoned = copy.deepcopy(made)
    places = list(_texts(poisoned["spec"]))
    for _ in range(draw(st.integers(1, 2))):
        holder, key = draw(st.sampled_from(places))
        holder[key] = draw(st.sampled_from(HOSTILE) | st.text(max_size=12))
    return made, poisoned


def _texts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Where the texts are: the mapping or list, and the key."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(inner, str):
            yield value, key
        elif isinstance(inner, dict | list):
            yield from _texts(inner)


@cache
def model(cls: type[Model], must: Path = ()) -> st.SearchStrategy[dict[str, Any]]:
    """What a model accepts, with this leaf set."""
    return _model(cls, must)


@st.composite
def _model(draw: Draw, cls: type[Model], must: Path) -> dict[str, Any]:
    """What a model accepts: its required fields, some of the others, and what must be there."""
    fields = _fields(cls)
    required = {name for name, field in fields.items() if field.is_required()}
    exclusive = ONE_OF.get(cls, ())
    optional = [name for name in fields if name not in required and name not in exclusive]
    first = must[0] if must else ""
    made: dict[str, Any] = {}
    for _ in range(ATTEMPTS):
        chosen = {*required, *filter(None, [first])}
        number = draw(NUMBERS)
        chosen |= set(random.Random(number).sample(optional, min(number % 4, len(optional))))
        if exclusive and not chosen & set(exclusive):
            chosen.add(exclusive[number % len(exclusive)])
        if cls is resource.Spec:
            chosen.add("source")
        made = {
            name: draw(_field(cls, name, must[1:] if name == first else ()))
            for name in fields
            if name in chosen
        }
        _agree(cls, made, first)
        if _accepted(cls, made):
            break
    return made


def _agree(cls: type[Model], made: dict[str, Any], first: str) -> None:
    """Make fields agree that must, where chance would hardly ever; `first` has to stay."""
    if cls is autoscaling.Metric:
        kind = next(name for name in ONE_OF[cls] if name in made)
        made["type"] = kind[0].upper() + kind[1:]
    if cls in (autoscaling.ShareTarget, autoscaling.ValueTarget):
        kind = next(name for name in ONE_OF[cls] if name in made)
        made["type"] = {"averageUtilization": "Utilization"}.get(kind, kind[0].upper() + kind[1:])
    if cls is autoscaling.LabelExpression:
        if made["operator"] in ("In", "NotIn"):
            made["values"] = made.get("values") or ["a"]
        elif made.get("values"):
            made["operator"] = "In"
    if cls is build.BuildCache and "storageClassName" in made:
        if first == "claimName":
            del made["storageClassName"]
        else:
            made.pop("claimName", None)
            made.setdefault("size", "1Gi")
    if cls is build.Build:
        if made.get("base") == "Custom":
            made.setdefault("baseImage", "alpine")
        elif "baseImage" in made and made.get("base", "Scratch") == "Scratch":
            made["base"] = "Alpine"
        if "packageMirror" in made:
            made["packages"] = made.get("packages") or ["tzdata"]
        if made.get("packages") and made.get("toolchain") == "Mounted":
            made["toolchain"] = "Image"
    if cls is resource.Probes:
        for name in ("startup", "liveness"):
            if "successThreshold" in made.get(name, {}):
                made[name]["successThreshold"] = 1
    if cls is resource.Rollout:
        if made.get("maxUnavailable", 0) in (0, "0%") and made.get("maxSurge") in (0, "0%"):
            made["maxUnavailable"] = 1
        grace = made.get("terminationGracePeriodSeconds", 30)
        made["preStopSeconds"] = min(made.get("preStopSeconds", 0), grace - 1)
    if cls in (
        autoscaling.ShareTarget,
        autoscaling.ValueTarget,
        autoscaling.PodsTarget,
        build.BuildCache,
    ):
        for field in ("value", "averageValue", "size"):
            if field in made and not any(digit in str(made[field]) for digit in "123456789"):
                made[field] = 1
    if cls is container.Resources:
        for part in ("requests", "limits"):
            for key in made.get(part, {}):
                if "/" in key:
                    made[part][key] = len(key)
        extended = {k: v for k, v in made.get("requests", {}).items() if "/" in k}
        if extended:
            made["limits"] = {**made.get("limits", {}), **extended}
    if cls is resource.Spec:
        ports = made.get("ports", [{"name": "http"}])
        for probe in made.get("probes", {}).values():
            for way in ("httpGet", "tcpSocket", "grpc"):
                port = probe.get(way, {}).get("port")
                if way in probe and not ports and not isinstance(port, int):
                    probe[way]["port"] = 8080
                elif isinstance(port, str):
                    probe[way]["port"] = ports[0]["name"]


@cache
def _fields(cls: type[Model]) -> dict[str, FieldInfo]:
    cls.model_rebuild()  # A model may name one that is written below it.
    return {field.alias or name: field for name, field in cls.model_fields.items()}


def _accepted(cls: type[Model], made: Mapping[str, Any]) -> bool:
    try:
        cls.model_validate(made)
    except ValidationError:
        return False
    return True


@cache
def _field(cls: type[Model], name: str, must: Path) -> st.SearchStrategy[Any]:
    field = _fields(cls)[name]
    extra = field.json_schema_extra
    return _of(field.annotation, [*field.metadata, extra if isinstance(extra, dict) else {}], must)


def _of(kind: Any, about: list[Any], must: Path) -> st.SearchStrategy[Any]:
    """What a type accepts; `about` are its annotations."""
    if get_origin(kind) is Annotated:
        inner, *more = get_args(kind)
        return _of(inner, [*about, *_flat(more)], must)
    some = [each for each in get_args(kind) if each is not NoneType]
    if get_origin(kind) in (Union, UnionType) and len(some) == 1:
        return _of(some[0], about, must)
    for fact in about:
        if isinstance(fact, Text):
            return _matching(fact.pattern, fact.longest)
        if isinstance(fact, NumberOrText):
            numbers = st.integers(fact.lowest, min(fact.highest, 1 << 40))
            return numbers | _matching(fact.pattern, fact.longest)
        if isinstance(fact, OneOf):
            return st.sampled_from(fact.values)
    return _plain(kind, about, must)


def _flat(facts: list[Any]) -> Iterator[Any]:
    for fact in facts:
        if isinstance(fact, FieldInfo):
            yield from fact.metadata
            yield fact.json_schema_extra or {}
        else:
            yield fact


def _plain(kind: Any, about: list[Any], must: Path) -> st.SearchStrategy[Any]:
    if get_origin(kind) is list:
        return _list(get_args(kind)[0], about, must)
    if get_origin(kind) is dict:
        key, value = get_args(kind)
        return st.dictionaries(
            _of(key, [], ()), _of(value, [], must[1:]), min_size=len(must[:1]), max_size=3
        )
    assert isinstance(kind, type), kind
    if issubclass(kind, Model):
        return model(kind, must)
    if issubclass(kind, Enum):
        return st.sampled_from([member.value for member in kind])
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.integers(_bound(about, Ge, "ge"), _bound(about, Le, "le"))
    assert kind is str, kind
    return st.text(max_size=min(12, _bound(about, MaxLen, "max_length")))


def _bound(about: list[Any], kind: type, name: str) -> Any:
    return next(getattr(fact, name) for fact in about if isinstance(fact, kind))


def _list(item: Any, about: list[Any], must: Path) -> st.SearchStrategy[Any]:
    extra: dict[str, Any] = {}
    least = len(must[:1])
    for fact in about:
        if isinstance(fact, dict):
            extra |= fact
        if isinstance(fact, MinLen):
            least = max(least, fact.min_length)
    keys = extra.get("x-kubernetes-list-map-keys")
    unique: Any = None
    if keys:
        unique = lambda made: tuple(made[key] for key in keys)  # noqa: E731
    elif extra.get("x-kubernetes-list-type") == "set":
        unique = str
    inner = _of(item, [], must[1:])
    return st.lists(inner, min_size=least, max_size=max(2, least), unique_by=unique)


def _matching(pattern: str, longest: int) -> st.SearchStrategy[str]:
    """Texts that a pattern takes whole."""
    return NUMBERS.map(lambda number: matching.text(pattern, longest, number))


NAMES = _matching(resource.NAME_PATTERN, resource.NAME_LONGEST)
"""Names that a GoService may have."""
NAMESPACES = _matching(resource.NAMESPACE_PATTERN, 63)
"""Names that a namespace may have."""
ASKED = st.text(max_size=8) | st.sampled_from(HOSTILE)
"""What a user may write into an annotation that asks for something."""
ANNOTATIONS = st.fixed_dictionaries(
    {}, optional={resource.REBUILD_ANNOTATION: ASKED, resource.RESTART_ANNOTATION: ASKED}
)
"""A GoService's annotations, as far as they ask for something."""
