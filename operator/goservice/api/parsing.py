"""From the body of a resource to its frozen types, with one problem for each fault, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from goservice.api.fields import shown
from goservice.api.resource import (
    NAME_LONGEST,
    NAME_PATTERN,
    NAMESPACE_PATTERN,
    REBUILD_ANNOTATION,
    RESTART_ANNOTATION,
    GoService,
    Spec,
)
from goservice.errors import InvalidSpec, Problem


def parse(body: Mapping[str, Any]) -> GoService:
    """The resource in a body as the API server stores it.

    Raises:
        InvalidSpec: with one problem for each fault that was found.
    """
    metadata = body.get("metadata") or {}
    name = str(metadata.get("name") or "")
    namespace = str(metadata.get("namespace") or "default")
    problems = []
    if not re.fullmatch(NAMESPACE_PATTERN, namespace):
        problems.append(
            Problem(
                "metadata.namespace",
                "must be at most 63 lower case letters, digits and -, "
                f"starting and ending with a letter or digit, not {shown(namespace)}",
            )
        )
    if not re.fullmatch(NAME_PATTERN, name) or len(name) > NAME_LONGEST:
        problems.append(
            Problem(
                "metadata.name",
                f"must be at most {NAME_LONGEST} lower case letters, digits and -, starting with a letter and not ending with -, not {shown(name)}",
            )
        )
    try:
        written = json.dumps(_without_nulls(body.get("spec", {})), default=str)
        spec = Spec.model_validate_json(written, strict=True)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            problems += _problems(detail)
        raise InvalidSpec(problems) from None
    if any(file.to == f"/app/{spec.build.binary or name}" for file in spec.build.files):
        problems.append(
            Problem(
                "spec.build.files", f"must not replace the program /app/{spec.build.binary or name}"
            )
        )
    if problems:
        raise InvalidSpec(problems)
    annotations = metadata.get("annotations") or {}
    return GoService(
        namespace=namespace,
        name=name,
        uid=str(metadata.get("uid") or ""),
        generation=int(metadata.get("generation") or 1),
        spec=spec,
        rebuild_requested_at=str(annotations.get(REBUILD_ANNOTATION, ""))[:64],
        restart_requested_at=str(annotations.get(RESTART_ANNOTATION, ""))[:64],
    )


def dump(spec: Spec) -> dict[str, Any]:
    """The spec as a user would write it: camelCase, without what equals a default."""
    return spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _without_nulls(value: Any) -> Any:
    """The value as the API server stores it: it drops a null field."""
    if isinstance(value, Mapping):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(v) for v in value]
    return value


_WORDS = {
    "missing": "is required",
    "extra_forbidden": "is not a field; see kubectl explain goservice.{parent}",
    "string_type": "must be a string, not {input}",
    "int_type": "must be a whole number, not {input}",
    "int_parsing": "must be a whole number, not {input}",
    "int_from_float": "must be a whole number, not {input}",
    "bool_type": "must be true or false, not {input}",
    "bool_parsing": "must be true or false, not {input}",
    "list_type": "must be a list, not {input}",
    "dict_type": "must be a mapping, not {input}",
    "model_type": "must be a mapping, not {input}",
    "model_attributes_type": "must be a mapping, not {input}",
    "greater_than_equal": "must be at least {ge}, not {input}",
    "less_than_equal": "must be at most {le}, not {input}",
    "too_long": "must have at most {max_length} items, has {actual_length}",
    "too_short": "must have at least {min_length} items, has {actual_length}",
    "enum": "must be {expected}, not {input}",
}
"""The message of each type of error that pydantic knows, in the API's words."""


def _problems(error: ErrorDetails) -> list[Problem]:
    """What one of pydantic's errors says, in the words of the API: several for broken rules."""
    context = dict(error.get("ctx") or {})
    path = "spec"
    for part in error["loc"]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part not in ("int", "str", "[key]"):
            path += f".{part}"
    if "faults" in context:
        return [Problem(f"{path}.{field}" if field else path, m) for field, m in context["faults"]]
    template = _WORDS.get(error["type"])
    if template is None or (error["type"] == "enum" and "expected" not in context):
        return [Problem(path, error["msg"])]
    words = {**context, "input": shown(error["input"]), "parent": path.rpartition(".")[0]}
    return [Problem(path, template.format(**words))]
