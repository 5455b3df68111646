"""The tables of the documentation, made from what they describe: `make docs` writes them.

A page says where a table goes with a pair of comments, `<!-- reference: spec source -->` and
`<!-- end -->`; what stands between them is written anew. A test fails when a page is out of date or
a part of the API is in no table. Nothing here knows a field, a reason or a setting by name.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import click
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from goservice import metrics, settings
from goservice.api import conditions, crd, parsing, reaches, resource
from goservice.api.fields import Reserved
from goservice.api.status import Status
from goservice.cluster import kinds
from goservice.data import data_dir
from goservice.decide import plan
from goservice.objects import children
from goservice.objects.children import BuildOrder, Child, Upkeep, Wants

PAGES = Path(__file__).parent
PACKAGE = PAGES.parent / "operator" / "goservice"
MARKED = re.compile(r"(<!-- reference: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
OTHERS = "others"
"""Stands for every field of the spec that has no section of its own: `<!-- reference: fields others -->`."""
MANY = 12
"""An enumeration longer than this is counted, not listed."""

Schema = Mapping[str, Any]
Row = Sequence[str]


def page(text: str) -> str:
    """A page with every table written anew."""
    return MARKED.sub(lambda found: f"{found[1]}{_made(found[2])}\n{found[3]}", text)


def topics() -> set[str]:
    """Every table that some page must have. A field without one of its own is among the others."""
    return {f"fields {OTHERS}", *SINGLE}


def asked(text: str) -> Iterator[str]:
    """The topics that a page asks for; `fields a, b` is one for each."""
    for found in MARKED.finditer(text):
        topic, _, arguments = found[2].partition(" ")
        yield from (f"{topic} {a.strip()}".strip() for a in arguments.split(","))


def others(fields: Iterable[str], texts: Iterable[str]) -> list[str]:
    """The fields of the spec that no table of these pages asks for by name."""
    named = {topic for text in texts for topic in asked(text)}
    return [name for name in fields if f"fields {name}" not in named]


def _made(request: str) -> str:
    topic, _, arguments = request.partition(" ")
    if topic in MANY_TIMES:
        return MANY_TIMES[topic]([argument.strip() for argument in arguments.split(",")])
    return SINGLE[topic]()


def _table(head: Row, rows: Iterator[Row] | Sequence[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines
    )


def _code(text: object) -> str:
    return f"`{text}`" if text not in ("", None) else ""


# --- spec and status ------------------------------------------------------------------------------


def _fields(wanted: Sequence[str]) -> str:
    """The fields of one group or more: name, default, what it takes, what a change does."""
    whole = crd.schema(resource.Spec)
    left_over = list(wanted) == [OTHERS]
    if left_over:
        wanted = others(whole["properties"], (page.read_text() for page in pages()))
        if not wanted:
            return ""
    rows = [
        [_code(path), _default(node, required), _takes(node), _change(path), _words(node)]
        for path, node, required in _leaves(whole, wanted)
    ]
    heading = "## Other fields\n\n" if left_over else ""
    return heading + _table(["field", "default", "takes", "a change", ""], rows)


def _status() -> str:
    """The fields of the status that something writes."""
    unwritten = tuple(reserved(Status))
    rows = [
        [_code(path), _takes(node) if "enum" in node else "", _words(node)]
        for path, node, _ in _leaves(
            crd.schema(Status), list(Status.model_json_schema()["properties"])
        )
        if not f"{path.replace('[]', '')}.".startswith(unwritten)
    ]
    return _table(["field", "values", ""], rows)


def reserved(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """The path of every field that is marked `Reserved`, with a dot at its end: `a.b.`."""
    for name, field in model.model_fields.items():
        path = f"{above}{field.alias or name}."
        if any(isinstance(mark, Reserved) for mark in field.metadata):
            yield path
        for below in _models(field.annotation):
            yield from reserved(below, path)


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    """The shapes in a field's type: of the field itself, or of its items."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _leaves(whole: Schema, wanted: Sequence[str]) -> Iterator[tuple[str, Schema, bool]]:
    """Path, schema and whether it is required, of every field; a shape that was shown is named."""
    shown: dict[str, str] = {}
    for name in wanted:
        yield from _below(name, whole["properties"][name], name in whole.get("required", ()), shown)


def _below(
    path: str, node: Schema, required: bool, shown: dict[str, str]
) -> Iterator[tuple[str, Schema, bool]]:
    item = node.get("items", node)
    fields: Mapping[str, Schema] = item.get("properties", {})
    if not fields:
        yield path, node, required
        return
    shape = json.dumps(fields, sort_keys=True)
    if shape in shown and len(fields) > 1:
        same = f"{_words(node)} Its fields are those of `{shown[shape]}`."
        yield path, {**node, "description": same}, required
        return
    shown.setdefault(shape, path)
    if "description" in node:
        yield path, node, required
    for name, below in fields.items():
        inside = f"{path}[].{name}" if "items" in node else f"{path}.{name}"
        yield from _below(inside, below, name in item.get("required", ()), shown)


def _words(node: Schema) -> str:
    return " ".join(str(node.get("description", "")).split())


def _default(node: Schema, required: bool) -> str:
    if required:
        return "required"
    default = node.get("default")
    return (
        ""
        if default in (None, {})
        else _code(json.dumps(default) if isinstance(default, (list, bool)) else default)
    )


def _takes(node: Schema) -> str:
    """What a value must be, as far as the schema says it."""
    kind = node.get("type", "")
    if "enum" in node:
        choices = node["enum"]
        return (
            ", ".join(map(_code, choices))
            if len(choices) <= MANY
            else f"one of {len(choices)} names"
        )
    allowed = [
        rule["message"].removeprefix("must be ")
        for rule in node.get("x-kubernetes-validations", ())
        if rule["message"].startswith("must be ") and "fieldPath" not in rule
    ]
    if "anyOf" in node or kind == "string":
        return _text(node, allowed)
    if kind in ("integer", "number"):
        return _number(node)
    if kind == "boolean":
        return "`true`, `false`"
    if kind == "array":
        least = f"{node['minItems']} to " if "minItems" in node else "up to "
        item = node["items"]
        inside = "" if "properties" in item else f": {_takes(item)}"
        return f"{least}{node.get('maxItems', '')} items{inside}"
    if "additionalProperties" in node:
        inside = _takes(node["additionalProperties"])
        return f"up to {node.get('maxProperties', '')} names and values: {inside}"
    return ""


def _text(node: Schema, allowed: Sequence[str]) -> str:
    form = {"date-time": "a time"}.get(str(node.get("format")), "")
    said = [words for words in (*allowed, form) if words]
    longest = node.get("maxLength")
    if longest and not any("at most" in words for words in said) and "anyOf" not in node:
        said.append(f"at most {longest} characters")
    return ", ".join(said) or "text"


def _number(node: Schema) -> str:
    least, most = node.get("minimum"), node.get("maximum")
    if most is None or most >= 2**31 - 1:
        return f"a number from {least}" if least is not None else "a number"
    return f"{least} to {most}"


def _refused(wanted: Sequence[str]) -> str:
    """The rules over several fields that the API server and `goservice validate` hold."""
    whole = crd.schema(resource.Spec)
    every = [
        (f"{name}{path}", message)
        for name in wanted
        for path, message in _rules("", whole["properties"][name])
    ]
    every += [
        (rule["fieldPath"].lstrip("."), rule["message"])
        for rule in whole["x-kubernetes-validations"]
        if rule["fieldPath"].lstrip(".").split(".")[0] in wanted
    ]
    merged: dict[str, list[str]] = {}
    for path, message in every:
        merged.setdefault(message, []).append(_code(path))
    return "\n".join(f"- {', '.join(paths)} {message}." for message, paths in merged.items())


def _rules(path: str, node: Schema) -> Iterator[tuple[str, str]]:
    for rule in node.get("x-kubernetes-validations", ()):
        if "properties" in node or not rule["message"].startswith("must be "):
            yield path + rule.get("fieldPath", ""), rule["message"]
    if "items" in node:
        yield from _rules(f"{path}[]", node["items"])
    for name, below in node.get("properties", {}).items():
        yield from _rules(f"{path}.{name}", below)


# --- what a change does ---------------------------------------------------------------------------

CHANGES: Mapping[reaches.Reaches | None, str] = {
    reaches.Reaches.IMAGE: "rebuild",
    reaches.Reaches.POD: "restart",
    reaches.Reaches.NOTHING: "none",
    None: "",
}
"""`rebuild` makes a new image, `restart` new pods of the same image, `none` neither."""


def _change(path: str) -> str:
    """What a change of a field does to what is there, as the field itself says it.

    Whether that is true is tried in tests/contract/test_reaches.py.
    """
    return CHANGES[reaches.answers(resource.Spec)[path]]


# --- conditions, settings, metrics, rights, modules, commands ---------------------------------------


def _conditions() -> str:
    rows = [[_code(kind), kind.says] for kind in conditions.Type]
    return _table(["condition", "says"], rows)


def _reasons() -> str:
    rows = [[_code(r), r.meaning, r.advice] for r in conditions.Reason]
    return _table(["reason", "means", "what to do"], rows)


def _settings() -> str:
    return _table(["setting", "default", "takes", ""], list(_section(settings.Settings, "")))


def _section(section: type[settings.Section], path: str, about: str = "") -> Iterator[Row]:
    schema = section.model_json_schema(by_alias=True)
    for name, field in section.model_fields.items():
        alias = field.alias or name
        full = f"{path}.{alias}".strip(".")
        below = next((t for t in get_args(field.annotation) if t is not NoneType), field.annotation)
        if isinstance(below, type) and issubclass(below, settings.Section):
            inside = field.description or "" if issubclass(below, settings.Compute) else ""
            yield from _section(below, full, inside)
            continue
        default = field.default
        if default is PydanticUndefined:
            shown = "required"
        elif isinstance(default, bool):
            shown = _code(json.dumps(default))
        else:
            shown = _code(default) if default not in ((), {}) else ""
        yield [
            _code(full),
            shown,
            _takes_setting(section, schema["properties"][alias]),
            f"{field.description or ''} {about}".strip(),
        ]


def _takes_setting(section: type[settings.Section], node: Schema) -> str:
    if "enum" in node:
        return ", ".join(map(_code, node["enum"]))
    if any("const" in choice for choice in node.get("anyOf", ())):
        return "text, may be empty"
    node = next((n for n in node.get("anyOf", ()) if n.get("type") != "null"), node)
    match node.get("type"):
        case "array":
            return "a list"
        case "object":
            compute = issubclass(section, settings.Compute)
            what = "quantities, such as `cpu: 100m`" if compute else "values, such as `team: shop`"
            return f"names and {what}"
        case "boolean":
            return "`true`, `false`"
        case "integer" | "number":
            least, most = node.get("minimum", node.get("exclusiveMinimum")), node.get("maximum")
            above = "above" if "exclusiveMinimum" in node else "from"
            return f"{least} to {most}" if most is not None else f"a number {above} {least}"
        case _:
            return "text"


def _metrics() -> str:
    counted = metrics.Metrics().registry.collect()
    kinds = {family.name: family.type for family in counted}
    rows = [[_code(n), kinds[n.removesuffix("_total")], text] for n, text in metrics.NAMES.items()]
    return _table(["metric", "type", ""], rows)


ORDER = ("get", "list", "watch", "create", "update", "patch", "delete")
"""The order in which verbs are told."""


def _verbs(right: str) -> str:
    return ", ".join(sorted(kinds.ACCESS[right], key=ORDER.index))


def _rights() -> str:
    rows = [[_code(right), _verbs(right)] for right in kinds.ACCESS]
    return _table(["resource", "verbs"], rows)


def _rights_explained() -> str:
    """The rights with what each is needed for."""
    rows = [[_code(right), _verbs(right), kinds.why(right)] for right in kinds.ACCESS]
    return _table(["resource", "verbs", "why"], rows)


SAMPLE: Mapping[str, Any] = {
    "metadata": {"name": "name", "namespace": "shop"},
    "spec": {
        "source": {"git": {"url": "https://git.example.com/shop/checkout.git"}},
        "image": {"repository": "registry.example.com/shop/checkout"},
    },
}
"""The service whose objects' names are shown, with NAME for its own."""


def _children() -> str:
    """Each kind that the operator writes, and what the module of its object says that it is for."""
    rows = []
    for kind in children.CHILD_KINDS:
        every = [child for child in children.CHILDREN if child.kind.kind == kind]
        names = [_name(child) for child in every if child.upkeep is not Upkeep.WATCHED]
        if names:
            rows.append([kind, ", ".join(sorted(names)), _purpose(kind)])
    return _table(["object", "name", "for"], rows)


def _name(child: Child) -> str:
    service = replace(parsing.parse(SAMPLE), name="NAME")
    if child.upkeep is not Upkeep.CREATED:
        return child.name(service)
    platform = settings.load(data_dir("manifests") / "operator" / "settings.yaml", {})
    made = child.wanted(Wants(service, platform, BuildOrder("0" * 40, "INPUTS", 1)))
    assert made is not None
    return f"{made['metadata']['name'].removesuffix('1')}ATTEMPT"


def _purpose(kind: str) -> str:
    """The part after the colon of what goservice/objects/the_kind.py says of itself."""
    file = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind).lower()
    text = importlib.import_module(f"goservice.objects.{file}").__doc__ or ""
    said = " ".join(text.partition("\n\n")[0].split()).rstrip(".")
    return said.partition(": ")[2] or said


def _steps() -> str:
    """The steps of a decision in their order, and what each asks."""
    rows = []
    for step in plan.STEPS:
        said = (step.__doc__ or "").partition("\n\n")[0]
        rows.append([_code(step.__name__.strip("_")), " ".join(said.split())])
    return _table(["step", "asks"], rows)


def _modules() -> str:
    """Each module and package, and the first sentence of what it says of itself."""
    rows = []
    for file in sorted(PACKAGE.iterdir()):
        source = file / "__init__.py" if file.is_dir() else file
        if not source.is_file() or file.name == "__init__.py":
            continue
        text = ast.get_docstring(ast.parse(source.read_text())) or ""
        rows.append([_code(file.stem), " ".join(text.partition("\n\n")[0].split())])
    return _table(["module", "says of itself"], rows)


def _layers() -> str:
    """The import contract's layers, the uppermost first."""
    project = tomllib.loads((PAGES.parent / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = (
        contract["layers"]
        for contract in contracts
        if contract.get("layers", [""])[0].startswith("goservice.")
    )
    lines = [layer.replace("goservice.", "").replace(" | ", "  ") for layer in layers]
    return "\n".join(["```", *lines, "```"])


def _commands() -> str:
    rows = [
        [f"[`goservice {name}`](#goservice-{name})", command.get_short_help_str(200)]
        for name, command in _visible()
    ]
    return _table(["command", ""], rows)


def _help() -> str:
    """The help of each command, as a terminal shows it."""
    return "\n\n".join(
        f"## goservice {name}\n\n```\n{_helped(command, name)}\n```" for name, command in _visible()
    )


def _visible() -> list[tuple[str, click.Command]]:
    group = importlib.import_module("goservice.cli.main").main
    return [(name, command) for name, command in group.commands.items() if not command.hidden]


def _helped(command: click.Command, name: str) -> str:
    with click.Context(
        command,
        info_name=f"goservice {name}",
        terminal_width=80,
        help_option_names=["-h", "--help"],
    ) as context:
        return command.get_help(context)


SINGLE: dict[str, Callable[[], str]] = {
    "status": _status,
    "conditions": _conditions,
    "reasons": _reasons,
    "settings": _settings,
    "metrics": _metrics,
    "rights": _rights,
    "rights-explained": _rights_explained,
    "children": _children,
    "steps": _steps,
    "modules": _modules,
    "layers": _layers,
    "commands": _commands,
    "help": _help,
}
MANY_TIMES: dict[str, Callable[[Sequence[str]], str]] = {"fields": _fields, "refused": _refused}


def pages() -> list[Path]:
    """Every page that may hold a table."""
    return [PAGES.parent / "README.md", *sorted(PAGES.glob("*.md"))]


def main() -> int:
    """Write every page anew."""
    for file in pages():
        before = file.read_text()
        after = page(before)
        if after != before:
            file.write_text(after)
            print(f"written: {file.relative_to(PAGES.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
