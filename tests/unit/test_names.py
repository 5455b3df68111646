"""Names and hashes are promises: a changed one rebuilds or restarts somebody's service."""

from __future__ import annotations

from typing import Any

import pytest

from goservice import names
from goservice.build.inputs import inputs_hash
from goservice.quantity import same_quantity
from tests.support import factories as f

RECORDED: dict[str, tuple[dict[str, Any], str]] = {
    "minimal": ({}, "a9c99ee433"),
    "classic": (
        {
            "build": {
                "binary": "httpserver",
                "base": "Alpine",
                "baseImage": "alpine:3.16",
                "packages": ["tzdata"],
            },
            "timeZone": "Asia/Shanghai",
        },
        "d6490b13f5",
    ),
}


@pytest.mark.parametrize(("changes", "expected"), RECORDED.values(), ids=RECORDED.keys())
def test_recorded_inputs(changes: dict[str, Any], expected: str) -> None:
    assert inputs_hash(f.service(**changes), f.SETTINGS, f.COMMIT) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"env": [{"name": "A", "value": "b"}]},
        {"replicas": 4},
        {"build": {"timeoutSeconds": 900}},
        {"build": {"resources": {"limits": {"memory": "8Gi"}}}},
        {"build": {"history": {"failed": 9}}},
        {"timeZone": "UTC"},
        {"user": {"uid": 10001}},
    ],
)
def test_what_does_not_reach_the_image_rebuilds_nothing(changes: dict[str, Any]) -> None:
    assert inputs_hash(f.service(**changes), f.SETTINGS, f.COMMIT) == RECORDED["minimal"][1]


@pytest.mark.parametrize(
    "changes",
    [
        {"build": {"package": "./cmd/a"}},
        {"timeZone": "Europe/Paris"},
        {"user": {"uid": 5}},
        {"image": {"repository": "registry.example.com/other"}},
        {"build": {"variables": [{"name": "main.v", "value": "1"}]}},
    ],
)
def test_what_reaches_the_image_builds(changes: dict[str, Any]) -> None:
    assert inputs_hash(f.service(**changes), f.SETTINGS, f.COMMIT) != RECORDED["minimal"][1]


def test_settings_that_reach_an_image_rebuild_it() -> None:
    images = f.SETTINGS.images.model_copy(update={"builder": "golang:9"})
    changed = f.SETTINGS.model_copy(update={"images": images})
    assert inputs_hash(f.service(), changed, f.COMMIT) != RECORDED["minimal"][1]
    pinned = f.service(build={"builderImage": "golang:1.27"})
    assert inputs_hash(pinned, changed, f.COMMIT) == inputs_hash(pinned, f.SETTINGS, f.COMMIT)
    mirrored = f.SETTINGS.model_copy(
        update={"builds": f.SETTINGS.builds.model_copy(update={"package_mirror": "http://m"})}
    )
    packages = f.service(build={"packages": ["tzdata"]})
    assert inputs_hash(packages, mirrored, f.COMMIT) != inputs_hash(packages, f.SETTINGS, f.COMMIT)


def test_placeholders() -> None:
    source = {"git": {"url": "https://git.example.com/a.git", "revision": "feature/x"}}
    service = f.service(
        source=source,
        image={
            "repository": "r.example.com/a",
            "tag": "$(REVISION)-$(NAME)-$(NAMESPACE)-$(INPUTS)",
        },
    )
    assert names.tag(service, f.COMMIT, "abc") == "feature-x-checkout-shop-abc"
    assert names.expand("$(COMMIT)", f.service(), f.COMMIT, "i") == f.COMMIT
    assert names.expand("$(REVISION)", f.service(), f.COMMIT, "i") == f.COMMIT
    assert names.destination(f.service(), f.COMMIT, "abc").endswith(f":{f.COMMIT}-abc")


def test_names_fit() -> None:
    longest = names.build(f.service(), "0123456789", 999)
    assert len("x" * 40) + len(longest) - len("checkout") <= 63


def test_the_revision_counts_only_where_it_is_shown() -> None:
    url = "https://git.example.com/a.git"
    variables = [{"name": "main.version", "value": "$(REVISION)"}]

    def inputs(revision: str, **build: object) -> str:
        source = {"git": {"url": url, "revision": revision}}
        return inputs_hash(f.service(source=source, build=build), f.SETTINGS, f.COMMIT)

    assert inputs("v1") == inputs("v2")
    assert inputs("v1", variables=variables) != inputs("v2", variables=variables)


def test_same_quantity() -> None:
    assert same_quantity("1000m", "1")
    assert not same_quantity("1", "x")
