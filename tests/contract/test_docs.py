"""The docs are what the types say, their examples are good, and what they point at is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import reference
from goservice.api import conditions, crd, resource
from goservice.api.status import Status
from goservice.cli import main

ROOT = Path(__file__).parents[2]
KUBECTL = Path(sys.prefix) / "bin" / "kubectl"
PAGES = [*reference.pages(), *sorted((ROOT / "docs" / "decisions").glob("*.md"))]


@pytest.mark.parametrize("page", reference.pages(), ids=lambda page: page.name)
def test_every_table_is_as_the_types_have_it(page: Path) -> None:
    text = page.read_text()
    assert reference.page(text) == text, f"{page.name} is out of date: make docs"


def test_every_part_of_the_api_has_its_table() -> None:
    asked = {topic for page in reference.pages() for topic in reference.asked(page.read_text())}
    assert reference.topics() <= asked


def test_a_field_without_a_section_of_its_own_is_among_the_others() -> None:
    pages = [
        "<!-- reference: fields a, b -->\n<!-- end -->",
        "<!-- reference: fields d -->\n<!-- end -->",
    ]
    assert reference.others(["a", "b", "c", "d"], pages) == ["c"]
    named = [page.read_text() for page in reference.pages()]
    left = reference.others(crd.schema(resource.Spec)["properties"], named)
    table = reference.page("<!-- reference: fields others -->\n<!-- end -->\n")
    assert {row.split("`")[1].split(".")[0] for row in table.splitlines() if "| `" in row} == set(
        left
    )


def test_a_table_that_was_changed_by_hand_is_noticed() -> None:
    page = "<!-- reference: conditions -->\n| `Ready` | is fine |\n<!-- end -->\n"
    assert "is fine" not in reference.page(page)
    assert "`Ready`" in reference.page(page)


def test_a_reserved_field_is_in_the_crd_and_says_so_and_is_in_no_table() -> None:
    paths = [path.strip(".") for path in reference.reserved(Status)]
    assert paths == ["dockerfile.hash"]
    table = reference.page("<!-- reference: status -->\n<!-- end -->")
    assert "`dockerfile.configMap`" in table
    for path in paths:
        node = crd.schema(Status)
        for name in path.split("."):
            node = node["properties"][name]
        assert "nothing writes it yet" in node["description"]
        assert f"`{path}" not in table


def test_every_reason_is_explained_and_has_advice() -> None:
    assert all(reason.meaning and reason.advice for reason in conditions.Reason)
    assert all(kind.says for kind in conditions.Type)


# --- what a change does ---------------------------------------------------------------------------


def test_what_a_change_does_is_what_the_field_says() -> None:
    """That a field says the truth is held by test_reaches.py."""
    table = reference.page("<!-- reference: fields ports, image, rollout -->\n<!-- end -->\n")
    said = {row.split("`")[1]: row for row in table.splitlines() if row.startswith("| `")}
    assert " | rebuild | " in said["image.tag"]
    assert " | restart | " in said["ports[].port"]
    assert " | none | " in said["ports[].servicePort"]
    assert " |  | How a new version takes over." in said["rollout"]


# --- examples -------------------------------------------------------------------------------------


def examples() -> Iterator[Any]:
    for page in PAGES:
        for number, block in enumerate(
            re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
        ):
            body = yaml.safe_load(block)
            if body.get("kind", resource.KIND) == resource.KIND and "spec" in body:
                yield pytest.param(body, id=f"{page.name}-{number}")


EXAMPLES = list(examples())


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 10


@pytest.mark.parametrize("body", EXAMPLES)
def test_every_example_is_valid(body: dict[str, Any]) -> None:
    head = {
        "apiVersion": resource.API_VERSION,
        "kind": resource.KIND,
        "metadata": {"name": "checkout", "namespace": "shop"},
    }
    done = CliRunner().invoke(main.main, ["validate", "-f", "-"], yaml.safe_dump({**head, **body}))
    assert done.exit_code == 0, done.output


def test_the_overlay_of_the_install_is_one(tmp_path: Path) -> None:
    """The page's own kustomization, with kubectl, on this checkout's manifests."""
    overlay = tmp_path / "my-install"
    overlay.mkdir()
    shutil.copytree(ROOT / "manifests", tmp_path / "manifests")
    shutil.copy(ROOT / "manifests" / "operator" / "settings.yaml", overlay)
    page = (ROOT / "docs" / "operations.md").read_text()
    (text,) = (t for t in re.findall(r" *```yaml\n(.*?)```", page, re.DOTALL) if "manifests" in t)
    (overlay / "kustomization.yaml").write_text(text)
    command = [str(KUBECTL), "kustomize", str(overlay)]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    objects = {(o["kind"], o["metadata"]["name"]): o for o in yaml.safe_load_all(made)}
    pod = objects["Deployment", "goservice-operator"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "registry.example.com/goservice-operator:0.1.0"
    assert ("ConfigMap", pod["volumes"][0]["configMap"]["name"]) in objects
    assert "CustomResourceDefinition" not in {kind for kind, _ in objects}


# --- commands and links ------------------------------------------------------------------------------


def test_every_command_is_in_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    for name, command in main.main.commands.items():
        if not command.hidden:
            assert f"`{name}`" in changelog


def anchors(page: Path) -> set[str]:
    """What headings are called in links, as GitHub makes it."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_the_commands_of_the_makefile_fit_a_screen() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z0-9-]+):.*## (.*)$", text, re.MULTILINE)
    groups = re.findall(r"^##@ (.*)$", text, re.MULTILINE)
    assert len(targets) + len(groups) <= 23
    assert all(len(f"  make {name:<12} {words}") <= 80 for name, words in targets)
    for name in ("demo", "demo-down", "test", "docs", "image"):
        assert name in dict(targets)
