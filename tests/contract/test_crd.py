"""The committed CRD, held to the types and to what an API server asks of a structural schema."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from goservice.api import build, conditions, crd, fields, resource
from goservice.data import data_dir

FILE = data_dir("crds") / "goservices.goservice.dev.yaml"
Schema = dict[str, Any]


def _version() -> Schema:
    version: Schema = crd.definition()["spec"]["versions"][0]
    return version


def _walk(
    node: Schema, path: str = "", *, in_list: bool = False
) -> Iterator[tuple[str, Schema, bool]]:
    yield path, node, in_list
    for name, field in node.get("properties", {}).items():
        yield from _walk(field, f"{path}.{name}", in_list=in_list)
    if "items" in node:
        yield from _walk(node["items"], f"{path}[]", in_list=True)
    if "additionalProperties" in node:
        yield from _walk(node["additionalProperties"], f"{path}{{}}", in_list=in_list)


SCHEMA = _version()["schema"]["openAPIV3Schema"]
NODES = [entry for part in ("spec", "status") for entry in _walk(SCHEMA["properties"][part], part)]
IDS = [path for path, _, _ in NODES]


def test_the_committed_file_is_what_the_types_make() -> None:
    if os.environ.get("UPDATE_GOLDEN") == "1":
        FILE.write_text(crd.dump())
    assert FILE.read_text() == crd.dump()
    assert yaml.safe_load(crd.dump()) == crd.definition()


def test_it_fits_the_annotation_of_a_client_side_apply() -> None:
    assert len(crd.dump()) < 256 * 1024


def largest(node: Schema) -> int:
    """Characters of the largest JSON that a schema takes, near enough; of a union the largest member."""
    if "enum" in node:
        return max(len(str(value)) for value in node["enum"])
    match node.get("type"):
        case "string" | None:
            return int(node["maxLength"])
        case "array":
            return int(node["maxItems"]) * largest(node["items"])
        case "object" if "properties" in node:
            return sum(len(key) + largest(below) for key, below in node["properties"].items())
        case "object":
            return int(node["maxProperties"]) * (317 + largest(node["additionalProperties"]))
        case _:
            return 20


def test_no_resource_is_larger_than_its_memory_is_counted_for() -> None:
    """Each field is bounded; so is what they come to, where CEL bounds the long lists as a whole."""
    sizes = {
        name: largest(node) for name, node in SCHEMA["properties"]["spec"]["properties"].items()
    }
    sizes["env"], sizes["args"] = resource.LONGEST_ENV, resource.LONGEST_ARGS
    # A metric is of one type: its other parts are not there.
    parts = SCHEMA["properties"]["spec"]["properties"]["autoscaling"]["properties"]["metrics"]
    kinds = [largest(node) for node in parts["items"]["properties"].values()]
    sizes["autoscaling"] -= parts["maxItems"] * (sum(kinds) - max(kinds))
    assert sum(sizes.values()) < 768 * 1024, sizes


@pytest.mark.parametrize(("path", "node", "in_list"), NODES, ids=IDS)
def test_every_node_is_bounded_and_explained(path: str, node: Schema, in_list: bool) -> None:
    kind = node.get("type")
    int_or_string = node.get("x-kubernetes-int-or-string")
    if kind == "string":
        assert "enum" in node or "maxLength" in node
    elif kind == "integer":
        assert {"minimum", "maximum"} <= set(node)
        assert node["format"] == ("int64" if node["maximum"] > 2**31 - 1 else "int32")
    elif kind == "array":
        assert "maxItems" in node
        assert node["x-kubernetes-list-type"] in ("atomic", "set", "map")
    elif kind == "object":
        assert ("properties" in node) != ("additionalProperties" in node)
        assert "properties" in node or "maxProperties" in node
    elif kind is None:
        assert int_or_string
        assert node["anyOf"] == [{"type": "integer"}, {"type": "string"}]
        assert "maxLength" in node
    else:
        assert kind == "boolean"
    assert "description" in node or path.endswith(("[]", "{}"))


@pytest.mark.parametrize(("path", "node", "in_list"), NODES, ids=IDS)
def test_nothing_is_in_it_that_a_structural_schema_may_not_have(
    path: str, node: Schema, in_list: bool
) -> None:
    assert not {"$ref", "$defs", "title", "patternProperties", "propertyNames"} & set(node)
    assert "x-kubernetes-preserve-unknown-fields" not in node
    assert node.get("additionalProperties") is not False
    assert node.get("nullable") is None
    assert {"type": "null"} not in node.get("anyOf", [])


@pytest.mark.parametrize(("path", "node", "in_list"), NODES, ids=IDS)
def test_defaults_stand_outside_of_list_items(path: str, node: Schema, in_list: bool) -> None:
    assert not (in_list and "default" in node)
    if isinstance(node.get("default"), dict):
        assert node["default"] == {}
        assert not node.get("required")


@pytest.mark.parametrize(("path", "node", "in_list"), NODES, ids=IDS)
def test_map_lists_have_keys_that_are_required(path: str, node: Schema, in_list: bool) -> None:
    for key in node.get("x-kubernetes-list-map-keys", ()):
        assert key in node["items"]["required"]


def test_every_rule_of_the_models_is_in_it() -> None:
    written = [rule for _, node, _ in NODES for rule in node.get("x-kubernetes-validations", ())]
    messages = {rule["message"] for rule in written}
    models: list[type[fields.Model]] = [
        resource.Spec,
        build.Build,
        build.CopiedFile,
        resource.User,
        resource.Autoscaling,
        resource.Rollout,
    ]
    assert {rule.message for model in models for rule in model.rules} <= messages
    paths = {rule.get("fieldPath") for rule in written}
    assert {".baseImage", ".packageMirror", ".source", ".minReplicas"} <= paths


def test_what_a_user_leaves_out_is_filled_in_as_the_parser_does() -> None:
    fields = SCHEMA["properties"]["spec"]["properties"]
    assert fields["build"]["default"] == {}
    assert fields["build"]["properties"]["base"]["default"] == "Scratch"
    assert fields["build"]["properties"]["modules"]["default"] == {}
    assert fields["ports"]["default"] == [{"name": "http", "port": 8080}]
    assert fields["replicas"]["default"] == 1
    assert "default" not in fields["probes"]
    assert "default" not in fields["image"]
    assert "default" not in fields["args"]


def test_names_columns_and_subresources() -> None:
    definition = crd.definition()
    names = definition["spec"]["names"]
    assert definition["metadata"]["name"] == f"{names['plural']}.{resource.GROUP}"
    assert names["shortNames"] == ["gsvc"]
    assert names["categories"] == ["all"]
    version = _version()
    assert version["subresources"]["status"] == {}
    assert version["subresources"]["scale"]["labelSelectorPath"] == ".status.selector"
    columns = version["additionalPrinterColumns"]
    assert [column["name"] for column in columns if "priority" not in column] == [
        "Ready", "Reason", "Image", "Replicas", "Age",
    ]  # fmt: skip
    assert [column["name"] for column in columns if column.get("priority") == 1] == ["Commit"]


def test_a_condition_s_message_and_reason_fit() -> None:
    fields = SCHEMA["properties"]["status"]["properties"]
    condition = fields["conditions"]["items"]["properties"]
    assert condition["message"]["maxLength"] == 32768
    assert set(condition["status"]["enum"]) == {"True", "False", "Unknown"}
    assert len(conditions.Type) <= fields["conditions"]["maxItems"]
    assert max(map(len, conditions.Reason)) <= condition["reason"]["maxLength"]
