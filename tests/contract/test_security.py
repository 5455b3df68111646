"""docs/security.md is held to the tests that it names, and the API to what it must not offer."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import jinja2
import jinja2.nodes
import pytest
import yaml

from goservice import settings
from goservice.api import crd, parsing, resource
from goservice.build import kaniko
from goservice.build.pod import BUILD
from goservice.data import data_dir
from goservice.errors import InvalidSpec
from tests.contract import test_rbac
from tests.support import factories as f

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = re.compile(r"`(tests/[a-z_/0-9]+\.py)::(test_\w+)`")
ADVISORY = re.compile(r"CVE-\d{4}-\d{4,}")

# --- the page ----------------------------------------------------------------------------------------


@cache
def defined(file: str) -> frozenset[str]:
    """The tests that a file defines, as pytest collects them: at its top."""
    tree = ast.parse((ROOT / file).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, kinds))


def rows(page: str) -> Iterator[list[str]]:
    """The cells of each row of the page's tables."""
    for line in page.splitlines():
        if line.startswith("|") and not re.fullmatch(r"[| -]+", line):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def advisories(page: str) -> list[list[str]]:
    """The rows whose first cell is an advisory, or several of one kind."""
    return [cells for cells in rows(page) if ADVISORY.match(cells[0])]


def missing(page: str) -> list[str]:
    """Tests that a page names and that are not there."""
    return [
        f"{file}::{name}"
        for file, name in NAMED.findall(page)
        if not (ROOT / file).is_file() or name not in defined(file)
    ]


def test_every_test_that_the_page_names_is_there() -> None:
    assert missing(PAGE) == []
    assert len(set(NAMED.findall(PAGE))) >= 30
    # A name that is written another way would be looked at by nobody.
    assert PAGE.count("::test_") == len(NAMED.findall(PAGE))


def test_every_promise_of_reliability_names_its_test() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    assert missing(page) == []
    promises = page.partition("## Promised")[2].partition("\n## ")[0]
    found = [cells for cells in rows(promises) if cells[0] != "promise"]
    assert len(found) >= 15
    assert [cells[0] for cells in found if not NAMED.search(cells[-1])] == []


def test_a_test_that_is_not_there_would_be_noticed() -> None:
    name = "test_a_test_that_is_not_there_would_be_noticed"
    here = "tests/contract/test_security.py"
    assert missing(f"`{here}::{name}` `{here}::test_nothing` `tests/none.py::{name}`") == [
        f"{here}::test_nothing",
        f"tests/none.py::{name}",
    ]


def test_there_are_twenty_advisories_each_with_a_test() -> None:
    found = advisories(PAGE)
    assert len(found) >= 20
    for cells in found:
        assert len(cells) == 4, cells
        assert NAMED.search(cells[-1]), cells[0]
    every = [each for cells in found for each in ADVISORY.findall(cells[0])]
    assert len(set(every)) == len(every)


def test_the_rights_on_the_page_are_the_manifests() -> None:
    told = {cells[0].strip("`"): set(cells[1].split(", ")) for cells in rows(PAGE)}
    granted = test_rbac.granted()
    assert {right: verbs for right, verbs in told.items() if right in granted} == granted


# --- what the API does not offer ---------------------------------------------------------------------

SCHEMA = crd.schema(resource.Spec)
FORBIDDEN = {
    "namespace", "serviceAccountName", "serviceAccount", "automountServiceAccountToken",
    "hostNetwork", "hostPID", "hostIPC", "hostPath", "hostPort", "hostUsers", "host",
    "privileged", "capabilities", "securityContext", "seccompProfile", "runtimeClassName",
    "volumes", "volumeMounts", "volumeDevices", "projected", "csi", "nfs",
    "podSpecPatch", "patch", "patches", "template", "podTemplate", "overrides", "extra",
    "initContainers", "containers", "sidecars", "lifecycle", "nodeName", "tolerations",
    "labels", "annotations", "ownerReferences", "finalizers", "secretName",
    "dockerfile", "kanikoArgs", "buildArgs", "extraArgs", "flags", "mounts",
}  # fmt: skip
"""What would let an author reach past the pod and the namespace that they are given."""


def fields(node: dict[str, Any], path: str = "spec") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, name and schema of every field."""
    for name, below in node.get("properties", {}).items():
        yield f"{path}.{name}", name, below
        yield from fields(below, f"{path}.{name}")
    for part in ("items", "additionalProperties"):
        if isinstance(node.get(part), dict):
            yield from fields(node[part], f"{path}[]")


FIELDS = list(fields(SCHEMA))


def test_no_field_reaches_into_the_pod_or_another_namespace() -> None:
    assert len(FIELDS) > 150
    assert [path for path, name, _ in FIELDS if name in FORBIDDEN] == []
    assert [p for p, _, node in FIELDS if "x-kubernetes-preserve-unknown-fields" in node] == []


def test_a_reference_names_an_object_and_nothing_else() -> None:
    references = {p: n for p, name, n in FIELDS if re.search(r"(Ref|Refs|KeyRef)$", name)}
    assert len(references) >= 6
    for path, node in references.items():
        target = node.get("items", node)
        assert set(target["properties"]) <= {
            "name", "key", "optional", "fieldPath", "apiVersion", "resource", "containerName", "divisor"
        }, path  # fmt: skip


def test_every_pattern_is_anchored() -> None:
    rules = [
        rule["rule"]
        for _, _, node in FIELDS
        for part in (node, node.get("items", {}), node.get("additionalProperties") or {})
        for rule in part.get("x-kubernetes-validations", ())
    ]
    # What must not be anywhere in a text (!self.matches) is searched, not matched whole.
    wanted = [rule.partition(" && !self.")[0] for rule in rules]
    patterns = [p for rule in wanted for p in re.findall(r"""matches\(r(['"].*?['"])\)""", rule)]
    assert len(patterns) >= 40
    for pattern in patterns:
        assert re.fullmatch(r"""(['"])\^\(.*\)\$\1""", pattern, re.DOTALL), pattern
    for field in (settings.ImageName, settings.Address, settings.Proxies):
        annotation = get_args(field)[1]
        (constraint,) = (m for m in annotation.metadata if hasattr(m, "pattern"))
        assert re.fullmatch(r"\^[^^$]*\$", constraint.pattern), constraint.pattern


@pytest.mark.parametrize("value", ["main\n", "main\r", "\nmain", "main\x00", "main\u2028"])
def test_a_line_end_after_a_good_value_is_refused(value: str) -> None:
    with pytest.raises(InvalidSpec, match=r"spec\.source\.git\.revision: must be"):
        f.service(source={"git": {"url": "https://git.example.com/a.git", "revision": value}})


@pytest.mark.parametrize(
    "to",
    ["/etc", "/etc/passwd", "/proc/self", "//etc/passwd", "/./etc/passwd", "/x/../etc/passwd",
     "/etc/", "/etc//passwd", "/x/..", "etc/passwd", "/app/checkout", "/app/./checkout", "/app//checkout"],
)  # fmt: skip
def test_a_path_of_the_image_cannot_be_written_another_way(to: str) -> None:
    with pytest.raises(InvalidSpec, match=r"spec\.build\.files"):
        f.service(build={"files": [{"from": "a", "to": to}]})
    f.service(build={"files": [{"from": "a", "to": "/etcetera/passwd"}]})


@pytest.mark.parametrize("length", [41, 63, 64, 253, 254, 5000])
def test_a_name_of_any_length_is_refused_in_words(length: int) -> None:
    body = f.body()
    body["metadata"]["name"] = "n" * length
    with pytest.raises(InvalidSpec, match=r"metadata\.name: must be at most 40"):
        parsing.parse(body)


def test_the_templates_call_nothing() -> None:
    """Values are printed and looked at; no function, filter, attribute or import is used."""
    for file in data_dir("templates").glob("*.j2"):
        tree = jinja2.Environment(autoescape=False).parse(file.read_text())
        used = {type(node).__name__ for node in tree.find_all(jinja2.nodes.Node)}
        assert used <= {"Output", "TemplateData", "Name", "If", "For", "Not", "Template"}, file.name


def test_the_build_reads_only_our_dockerfile_and_takes_no_archive() -> None:
    service = f.service()
    pod = kaniko.containers(service, f.SETTINGS, f.COMMIT, "abc", "checkout-build-abc-1")
    (build,) = (each for each in pod["initContainers"] if each["name"] == BUILD)
    flags = dict(word.partition("=")[::2] for word in build["args"])
    assert flags["--context"].startswith("dir:///")
    assert not flags["--dockerfile"].startswith(flags["--context"].removeprefix("dir://"))
    assert not {"--git", "--tar-path", "--context-sub-path", "--build-arg"} & set(flags)
    mounts = {mount["mountPath"]: mount for mount in build["volumeMounts"]}
    place = flags["--dockerfile"].rpartition("/")[0]
    assert mounts[place]["readOnly"]


def test_kaniko_is_newer_than_its_advisories() -> None:
    file = ROOT / "manifests" / "operator" / "settings.yaml"
    image = yaml.safe_load(file.read_text())["images"]["kaniko"]
    repository, _, tag = image.partition(":v")
    assert repository == "ghcr.io/osscontainertools/kaniko"
    assert tuple(map(int, tag.split("."))) >= (1, 28, 3)
