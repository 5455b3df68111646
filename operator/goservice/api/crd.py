"""The CustomResourceDefinition, made from the frozen types of `spec`.

Pydantic's JSON schema becomes the structural schema that an API server takes: references are put
in place, a null is an absent field, defaults stand outside list items only, and the models' rules
become CEL. Nothing is written here that the types could say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel
from typing_extensions import override

from goservice.api.resource import (
    GROUP,
    KIND,
    NAME_LONGEST,
    NAME_PATTERN,
    PLURAL,
    VERSION,
    Spec,
)
from goservice.api.status import Status
from goservice.manifest import Manifest

Schema = dict[str, Any]

_KEPT = (
    "description", "type", "format", "enum", "anyOf", "pattern", "minLength", "maxLength",
    "minimum", "maximum", "minItems", "maxItems", "maxProperties", "required", "default",
)  # fmt: skip
"""Keywords that are taken over as they are, in the order in which they are written."""


def definition() -> Manifest:
    """The CustomResourceDefinition of GoService."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["gsvc"],
                "categories": ["all"],
            },
            "scope": "Namespaced",
            "conversion": {"strategy": "None"},
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _root()},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": [
                        _column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
                        _column("Reason", '.status.conditions[?(@.type=="Ready")].reason'),
                        _column("Image", ".status.servingImage"),
                        _column("Replicas", ".status.replicas", "integer"),
                        _column("Commit", ".status.commit.sha", priority=1),
                        _column("Age", ".metadata.creationTimestamp", "date"),
                    ],
                }
            ],
        },
    }


def dump() -> str:
    """The definition as YAML, the same for the same types."""
    text = yaml.dump(definition(), Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)
    return (
        "# Made from operator/goservice/api by goservice.api.crd.dump(); a test holds them equal.\n"
        + text
    )


class _Dumper(yaml.SafeDumper):
    """Writes a value out wherever it stands: an API server's reader needs no anchors."""

    @override
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _column(name: str, path: str, kind: str = "string", priority: int = 0) -> Manifest:
    column: Manifest = {"name": name, "type": kind, "jsonPath": path}
    return column | ({"priority": priority} if priority else {})


def _root() -> Schema:
    """The schema of the whole resource."""
    return {
        "type": "object",
        "description": "A Go service: built from its repository into an image, and run as a"
        " hardened, autoscaled Deployment.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "goservice.dev/v1alpha1."},
            "kind": {"type": "string", "description": "GoService."},
            "metadata": {"type": "object"},
            "spec": schema(Spec),
            "status": schema(Status),
        },
        "x-kubernetes-validations": [
            {
                "rule": f"size(self.metadata.name) <= {NAME_LONGEST}"
                f" && self.metadata.name.matches('^{NAME_PATTERN}$')",
                "message": f"metadata.name must be at most {NAME_LONGEST} lower case letters,"
                " digits and -, starting with a letter and not ending with -",
            },
            {
                "rule": "!has(self.spec.build) || !has(self.spec.build.files)"
                " || self.spec.build.files.all(f, f.to != '/app/'"
                " + (has(self.spec.build.binary) ? self.spec.build.binary : self.metadata.name))",
                "message": "must not replace the program",
                "fieldPath": ".spec.build.files",
            },
        ],
    }


def schema(model: type[BaseModel]) -> Schema:
    """A model as a structural schema."""
    written = model.model_json_schema(by_alias=True)
    return _structural(written, written.get("$defs", {}), in_list=False)


def _structural(source: Mapping[str, Any], named: Mapping[str, Schema], *, in_list: bool) -> Schema:
    node = _resolved(source, named)
    result: Schema = {key: node[key] for key in _KEPT if key in node}
    if node.get("type") == "integer":
        result.setdefault("format", "int32")
    if "items" in node:
        result["items"] = _structural(node["items"], named, in_list=True)
    if "properties" in node:
        result["properties"] = {
            name: _structural(field, named, in_list=in_list)
            for name, field in node["properties"].items()
        }
    value = node.get("additionalProperties")
    if isinstance(value, dict):
        result["additionalProperties"] = _structural(value, named, in_list=True)
    result |= {key: value for key, value in node.items() if key.startswith("x-kubernetes-")}
    rules = [*_key_rules(node), *node.get("x-kubernetes-validations", ())]
    if rules:
        result["x-kubernetes-validations"] = rules
    default = None if in_list else _default(result)
    result.pop("default", None)
    return result if default is None else result | {"default": default}


def _resolved(source: Mapping[str, Any], named: Mapping[str, Schema]) -> Schema:
    """The schema with its reference in place, and without the null of an optional field."""
    node = dict(source)
    choices = [choice for choice in node.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == 1:
        del node["anyOf"]
        node = choices[0] | node
    if "$ref" in node:
        node = named[node.pop("$ref").rpartition("/")[2]] | node
    return node


def _default(node: Mapping[str, Any]) -> Any:
    """The default that the API server fills in; None where there is nothing to say.

    An object's is {} if a field of it has one, which makes the server go on with the fields.
    """
    default = node.get("default")
    if isinstance(default, dict):
        fields = node.get("properties", {}).values()
        return {} if any("default" in field for field in fields) else None
    if isinstance(default, list):
        return [{k: v for k, v in item.items() if v is not None} for item in default] or None
    return default


def _key_rules(node: Mapping[str, Any]) -> list[Schema]:
    """The rules that a map's keys look as they must: a structural schema has no other place."""
    keys = node.get("propertyNames", {})
    return [
        {
            "rule": f"self.all(key, size(key) <= {keys['maxLength']}"
            f" && {rule['rule'].replace('self.', 'key.', 1)})",
            "message": f"must have keys that are {rule['message'].removeprefix('must be ')},"
            f" of at most {keys['maxLength']} characters",
        }
        for rule in keys.get("x-kubernetes-validations", ())
    ]
