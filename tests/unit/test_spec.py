from __future__ import annotations

import copy
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from goservice import quantity, settings
from goservice.api import build, fields, parsing, resource
from goservice.api.container import Resources
from goservice.errors import InvalidSpec, SettingsError
from goservice.objects.job import build_job
from tests.support import corpus, factories


def body(change: corpus.Change) -> dict[str, Any]:
    made = factories.body(**copy.deepcopy(change))
    made["spec"] = {key: value for key, value in made["spec"].items() if value is not None}
    return made


def problems(made: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidSpec) as caught:
        parsing.parse(made)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("change", corpus.ACCEPTED.values(), ids=corpus.ACCEPTED)
def test_accepted_and_the_same_after_dump(change: corpus.Change) -> None:
    parsed = parsing.parse(body(change))
    dumped = parsing.dump(parsed.spec)
    assert parsing.parse(factories.body() | {"spec": dumped}).spec == parsed.spec


def test_a_short_resource_has_careful_defaults() -> None:
    service = factories.service()
    assert service.key == ("shop", "checkout")
    assert service.spec.build.base is build.Base.SCRATCH
    assert service.spec.user.uid == 10001
    assert service.spec.ports[0].port == 8080
    assert parsing.dump(service.spec) == factories.body()["spec"]


def test_every_fault_is_told() -> None:
    made = body({"replicas": "x", "timeZone": "berlin", "suspend": 1})
    made["metadata"] |= {"name": "9", "namespace": "a b"}
    assert [problem.partition(":")[0] for problem in problems(made)] == [
        "metadata.namespace",
        "metadata.name",
        "spec.timeZone",
        "spec.replicas",
        "spec.suspend",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timeZone": "shanghai"}, "(did you mean Asia/Shanghai?)"),
        ({"timeZone": ""}, "must be a name of the IANA time zone database"),
        ({"replicas": 1001}, "must be at most 1000, not 1001"),
        ({"replicas": -1}, "must be at least 0, not -1"),
        ({"args": ["a"] * 65}, "must have at most 64 items, has 65"),
        ({"typo": 1}, "is not a field; see kubectl explain goservice.spec"),
        ({"build": {"binary": "a" * 64}}, "must be at most 63 characters, has 64"),
        ({"build": {"base": "x"}}, "'Scratch', 'Busybox'"),
        ({"build": {"tags": ["a", "a"]}}, "must not name 'a' twice"),
        ({"resources": {"limits": {"cpu": True}}}, "must be a quantity"),
        ({"resources": {"limits": {"cpu": "1" * 33}}}, "must be a quantity"),
        ({"rollout": {"maxSurge": True}}, "must be a whole number from 0 to 1000"),
        (
            {"probes": {"liveness": {"httpGet": {"port": 0}}}},
            "must be a port number from 1 to 65535",
        ),
    ],
)
def test_messages_say_what_is_allowed(change: corpus.Change, message: str) -> None:
    assert any(message in problem for problem in problems(body(change)))


def test_a_long_text_is_told_how_long_it_may_be() -> None:
    found = problems(body({"env": [{"name": "A", "value": "x" * 20000}]}))
    assert found == ["spec.env[0].value: must be at most 16384 characters, has 20000"]


def test_null_is_absent_as_the_api_server_has_it() -> None:
    made = factories.body(build=None, env=None)
    assert parsing.parse(made).spec == factories.service().spec


def test_a_body_without_anything_is_told_what_it_needs() -> None:
    assert "spec.image: is required" in problems({})
    assert "spec.image: is required" in problems({"metadata": None, "spec": {}})


def test_requests_are_read_from_annotations() -> None:
    service = factories.service(
        annotations={resource.REBUILD_ANNOTATION: "now" * 40, resource.RESTART_ANNOTATION: "then"}
    )
    assert service.rebuild_requested_at == ("now" * 40)[:64]
    assert service.restart_requested_at == "then"


def test_a_value_is_shown_escaped_and_cut() -> None:
    assert fields.shown("a\nb") == r"'a\nb'"
    assert len(fields.shown("x" * 100)) == 58
    assert fields.shown(5) == "5"


@pytest.mark.parametrize(
    ("text", "number"),
    [("500m", "0.5"), ("1", "1"), ("1.5", "1.5"), ("2Ki", "2048"), ("1e3", "1000"), ("1E2", "100")],
)
def test_amount(text: str, number: str) -> None:
    assert quantity.amount(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "x", "1.2.3", "1Q", "-1"])
def test_amount_of_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        quantity.amount(text)


FILE = """\
images: {operator: o:1, kaniko: k:1, builder: golang:1.27, busybox: b:1, alpine: a:1, distroless: d:1}
builds: {moduleProxy: direct}
"""  # fmt: skip


def load(tmp_path: Path, text: str = FILE, **environment: str) -> settings.Settings:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    return settings.load(file, environment)


def test_settings_of_a_file(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    assert loaded.images.builder == "golang:1.27"
    assert loaded.builds.max_concurrent == 10
    assert loaded.port == 8080


def test_the_environment_wins_and_makes_sections(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        GOSERVICE_BUILDS__MAX_CONCURRENT="4",
        GOSERVICE_GIT__ALLOWED_HOSTS="[git.example.com]",
        GOSERVICE_BUILDS__PACKAGE_MIRROR="https://m.example.com",
        GOSERVICE_PORT="9000",
        GOSERVICE_OPERATOR_PORT="tcp://10.0.0.1:80",
        GOSERVICE_TEST_X="y",
        HOME="/home",
    )
    assert loaded.builds.max_concurrent == 4
    assert loaded.git.allowed_hosts == ("git.example.com",)
    assert loaded.builds.package_mirror == "https://m.example.com"
    assert loaded.port == 9000


def test_the_file_is_named_by_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text(FILE)
    assert settings.load(None, {"GOSERVICE_SETTINGS": str(file)}).port == 8080


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        (FILE + "colour: red\n", {}, "colour: is not a setting"),
        (FILE, {"GOSERVICE_BUILDS__COLOUR": "red"}, "builds.colour: is not a setting"),
        (FILE, {"GOSERVICE_PORT": "0"}, "port: "),
        (FILE, {"GOSERVICE_IMAGES__ALPINE": "a\nRUN id"}, "images.alpine: "),
        (FILE, {"GOSERVICE_IMAGES__ALPINE": "'a: b'"}, "images.alpine: "),
        (FILE, {"GOSERVICE_BUILDS__MODULE_PROXY": "[a: b: c"}, "builds.moduleProxy: "),
        (FILE, {"GOSERVICE_BUILDS__PACKAGE_MIRROR": "ftp://x"}, "builds.packageMirror"),
        (
            FILE,
            {"GOSERVICE_BUILDS__MODULE_PROXY": "https://u:p@proxy.example.com"},
            "builds.moduleProxy: value error, must not carry user or password",
        ),
        (
            FILE,
            {"GOSERVICE_BUILDS__POD_LABELS": "{goservice.dev/service: x}"},
            "builds.podLabels: value error, 'goservice.dev/service' is written by the operator",
        ),
        (
            FILE,
            {"GOSERVICE_BUILDS__POD_LABELS": "{team: 'a b'}"},
            "builds.podLabels: value error, 'team' must be at most 63 letters",
        ),
        (
            FILE,
            {"GOSERVICE_BUILDS__POD_ANNOTATIONS": "{'a b': x}"},
            "builds.podAnnotations: value error, 'a b' is no key",
        ),
        (
            FILE,
            {"GOSERVICE_BUILDS__STEP_RESOURCES__TOOLCHAIN": "{limit: {cpu: 1}}"},
            "builds.stepResources.toolchain.limit: is not a setting",
        ),
        (
            FILE,
            {"GOSERVICE_BUILDS__MAX_CONCURRENT_PER_NAMESPACE": "0"},
            "maxConcurrentPerNamespace: ",
        ),
        ("images: [", {}, "is not YAML"),
        ("just text", {}, "must be a mapping"),
        ("{}", {}, "images: field required"),
    ],
)
def test_wrong_settings_refuse_to_start(
    tmp_path: Path, text: str, environment: dict[str, str], message: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text, **environment)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("builds", "namespaces", "here"),
    [
        ({}, [], 5),
        ({"maxConcurrent": 1}, [], 1),
        ({"maxConcurrent": 5}, [], 3),
        ({"maxConcurrent": 5}, ["shop"], 5),
        ({"maxConcurrentPerNamespace": 2}, ["shop"], 2),
        ({"maxConcurrent": 3, "maxConcurrentPerNamespace": 9}, [], 3),
    ],
)
def test_a_namespace_has_half_of_the_builds_unless_it_is_alone(
    tmp_path: Path, builds: dict[str, int], namespaces: list[str], here: int
) -> None:
    environment = {
        "GOSERVICE_BUILDS__" + re.sub("([A-Z])", r"_\1", key).upper(): str(value)
        for key, value in builds.items()
    }
    loaded = load(tmp_path, **environment, GOSERVICE_NAMESPACES=str(namespaces))
    assert loaded.builds_of_a_namespace == here


def test_build_pods_have_the_platform_s_labels_and_no_sidecars() -> None:
    builds = factories.SETTINGS.builds.model_copy(
        update={"pod_labels": {"team": "builds"}, "pod_annotations": {"example.com/a": "b"}}
    )
    platform = factories.SETTINGS.model_copy(update={"builds": builds})
    made = build_job(
        factories.service(), platform, factories.COMMIT, "0123456789", attempt=1, notes={}
    )
    metadata = made["spec"]["template"]["metadata"]
    assert metadata["labels"]["team"] == "builds"
    assert metadata["annotations"]["example.com/a"] == "b"
    for place in ("labels", "annotations"):
        assert metadata[place]["sidecar.istio.io/inject"] == "false"
        assert metadata[place]["linkerd.io/inject"] == "disabled"
    assert metadata["labels"].items() >= made["metadata"]["labels"].items()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        settings.load(tmp_path / "none.yaml", {})


def test_the_user_s_resources_stand_above_the_platform_s() -> None:
    platform = settings.Compute(requests={"cpu": "1", "memory": "1Gi"}, limits={"memory": "1Gi"})
    assert platform.under(None) == {
        "requests": {"cpu": "1", "memory": "1Gi"},
        "limits": {"memory": "1Gi"},
    }
    own = Resources(limits={"memory": "2Gi"})
    assert platform.under(own) == {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}}
