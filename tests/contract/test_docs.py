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
from goservice import resources
from goservice.api import conditions, crd, resource
from goservice.cli import main

ROOT = Path(__file__).parents[2]
KUBECTL = Path(sys.prefix) / "bin" / "kubectl"
PAGES = [
    ROOT / "README.md",
    *reference.pages(),
    *sorted((ROOT / "docs" / "decisions").glob("*.md")),
]


@pytest.mark.parametrize("page", reference.pages(), ids=lambda page: page.name)
def test_every_table_is_as_the_types_have_it(page: Path) -> None:
    text = page.read_text()
    assert reference.page(text) == text, f"docs/{page.name} is out of date: make docs"


def test_every_part_of_the_api_has_its_table() -> None:
    asked = {topic for page in reference.pages() for topic in reference.asked(page.read_text())}
    assert reference.topics() <= asked


def test_a_table_that_was_changed_by_hand_is_noticed() -> None:
    page = "<!-- reference: conditions -->\n| `Ready` | is fine |\n<!-- end -->\n"
    assert "is fine" not in reference.page(page)
    assert "`Ready`" in reference.page(page)


def test_every_reason_is_explained_and_has_advice() -> None:
    assert set(conditions.MEANING) == set(conditions.Reason) == set(conditions.ADVICE)
    assert set(conditions.SAYS) == set(conditions.Type)


# --- what a change does ---------------------------------------------------------------------------


def leaves(node: Any, path: str = "") -> Iterator[str]:
    for name, below in node.get("properties", {}).items():
        full = f"{path}.{name}".strip(".")
        inside = below.get("items", below)
        if "properties" in inside:
            yield from leaves(inside, full)
        else:
            yield full


def test_every_field_has_a_value_that_is_tried() -> None:
    tried = tuple(reference.PROBES)
    for path in leaves(crd.schema(resource.Spec)):
        assert any(path == known or path.startswith(f"{known}.") for known in tried), path


@pytest.mark.parametrize(
    ("path", "effect"),
    [
        ("build.tags", "rebuild"),
        ("build.baseImage", "rebuild"),
        ("timeZone", "rebuild"),
        ("env", "restart"),
        ("ports", "restart"),
        ("ports.servicePort", "none"),
        ("image.digest", "restart"),
        ("image.pullSecretRefs", "restart"),
        ("build.timeoutSeconds", "none"),
        ("rollout.maxSurge", "none"),
        ("autoscaling", "none"),
        ("suspend", "none"),
    ],
)
def test_the_effect_of_a_change_is_found_by_making_one(path: str, effect: str) -> None:
    assert reference.effect(path) == effect


def test_what_changes_the_pods_is_an_input_of_their_template() -> None:
    """Else the change would be taken for one of the operator's own making, and not be applied."""
    restarts = [path for path in reference.PROBES if reference.effect(path) == "restart"]
    assert {"env", "go", "probes", "resources"} <= set(restarts)
    for path in restarts:
        before, after = reference.services(path)
        hashes = [
            resources.template_inputs(service, reference.SETTINGS, running)
            for service in (before, after)
            for running in [resources.Running(service.spec.image.digest or "", 1, "UTC")]
        ]
        assert hashes[0] != hashes[1], path


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
