"""The hashes of old in `recorded/hashes.yaml`, and the command that adds those of a new field.

`make golden` runs it. It writes only behind what is there: a hash that was recorded stays for ever.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from goservice.build.inputs import image_inputs, inputs_hash
from goservice.manifest import digest_of
from goservice.objects.pod_template import Deployed
from goservice.objects.template_inputs import template_hash
from goservice.settings import Settings
from tests.support import corpus
from tests.support import factories as f

FILE = Path(__file__).parent / "recorded" / "hashes.yaml"
"""Services, settings, and the hashes of each service under each of the settings."""


def hashes(case: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
    """The hashes that a recorded service has now, under these settings."""
    service = f.service(annotations=case.get("annotations"), **case["spec"])
    if "source" not in case["spec"]:
        service = replace(service, spec=service.spec.model_copy(update={"source": None}))
    platform = Settings.model_validate(settings)
    image = f"registry.example.com/shop/checkout@{f.DIGEST}"
    pods = Deployed(image, service.spec.user.uid, service.spec.time_zone, case["go"])
    built = image_inputs(service, platform, f.COMMIT)
    of_settings = digest_of(built.pop("settings"))
    del built["commit"]
    return {
        "inputs": inputs_hash(service, platform, f.COMMIT),
        "spec": digest_of(built),
        "settings": of_settings,
        "template": template_hash(service, platform, pods),
    }


def unwritten(record: Mapping[str, Any]) -> list[str]:
    """The fields of `corpus.OTHERWISE` that no recorded service sets."""
    written = {leaf for case in record["services"].values() for leaf in _paths(case["spec"])}
    return [
        path
        for path in corpus.OTHERWISE
        if not any(leaf == path or leaf.startswith(f"{path}.") for leaf in written)
    ]


def recorded(text: str) -> str:
    """The file with a service more for each field that no service in it sets."""
    record = yaml.safe_load(text)
    new = {}
    for path in unwritten(record):
        case = {"spec": corpus.otherwise(path)[1], "go": ""}
        found = {name: hashes(case, settings) for name, settings in record["settings"].items()}
        new[path] = {**case, "hashes": found}
    if not new:
        return text
    more = yaml.safe_dump(new, sort_keys=False, default_flow_style=None, width=120)
    return text + textwrap.indent(more, "  ")


def _paths(node: Any, path: str = "") -> Iterator[str]:
    """Every path in a spec as it is written, lists passed through."""
    if path:
        yield path
    for item in node if isinstance(node, list) else [node]:
        if isinstance(item, dict):
            for name, below in item.items():
                yield from _paths(below, f"{path}.{name}".strip("."))


if __name__ == "__main__":
    FILE.write_text(recorded(FILE.read_text()))
