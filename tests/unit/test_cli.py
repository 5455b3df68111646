"""The command line: offline commands whole, the others on an in-memory cluster's words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

import factories as f
from goservice import cli, plan

SAMPLE = Path(__file__).parents[2] / "manifests" / "samples" / "checkout.yaml"


def run(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(cli.main, arguments, input=given)


def test_validate_accepts_the_sample() -> None:
    result = run("validate", "-f", str(SAMPLE))
    assert result.exit_code == 0
    assert result.output == "goservice/checkout is valid\n"


def test_validate_names_each_fault_on_its_line() -> None:
    body = f.body(timeZone="Mars/Olympus", replicas=-1, colour="red")
    result = run("validate", "-f", "-", given=yaml.safe_dump(body))
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "spec.timeZone",
        "spec.replicas",
        "spec.colour",
    ]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: [", "not YAML"),
        ("kind: Pod\n", "has no GoService"),
        (
            "kind: GoService\napiVersion: goservice.dev/v9\n",
            "apiVersion: must be goservice.dev/v1alpha1",
        ),
    ],
)
def test_validate_refuses_other_input(text: str, word: str) -> None:
    result = run("validate", "-f", "-", given=text)
    assert result.exit_code == 2
    assert word in result.stderr


def test_render_prints_every_object() -> None:
    text = yaml.safe_dump(f.body(autoscaling={"minReplicas": 2, "maxReplicas": 3}))
    result = run("render", "-f", "-", given=text)
    assert result.exit_code == 0
    kinds = [d["kind"] for d in yaml.safe_load_all(result.output)]
    assert kinds == [
        "ServiceAccount",
        "ConfigMap",
        "Job",
        "ServiceAccount",
        "Deployment",
        "Service",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
    ]


def test_render_of_a_pinned_worker_builds_nothing() -> None:
    body = f.body(
        image={"repository": "r.example.com/a", "digest": f.DIGEST}, source=None, ports=[]
    )
    result = run("render", "-f", "-", given=yaml.safe_dump(body))
    assert [d["kind"] for d in yaml.safe_load_all(result.output)] == [
        "ServiceAccount",
        "Deployment",
    ]


def test_render_the_dockerfile_alone() -> None:
    result = run("render", "-f", str(SAMPLE), "--dockerfile", "--commit", f.COMMIT)
    assert result.exit_code == 0
    assert "FROM golang:" in result.output
    assert f.COMMIT in result.output
    assert run("render", "-f", str(SAMPLE), "--commit", "main").exit_code == 2


def test_bad_settings_are_told(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("images: {}\nnope: 1\n")
    result = run("render", "-f", str(SAMPLE), "--settings", str(file))
    assert result.exit_code == 2
    assert "nope: is not a setting" in result.stderr


def test_crd_is_the_committed_one() -> None:
    committed = Path(__file__).parents[2] / "crds" / "goservices.goservice.dev.yaml"
    assert run("crd").output == committed.read_text()


def test_no_cluster_is_told_in_words(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text("{}")
    for command in (["status", "a"], ["logs", "a"], ["rebuild", "a"]):
        result = run(*command, "--kubeconfig", str(file))
        assert result.exit_code == 1
        assert "error" in result.stderr


def test_the_story_of_a_failed_build() -> None:
    service = f.service()
    job = f.job(service, ended="Failed")
    pod = f.pod(
        job,
        init=[
            f.terminated("fetch", message=f.FETCHED % f.COMMIT),
            f.terminated("build", 1, "undefined: x"),
        ],
    )
    decided = plan.decide(service, f.observed(job, pod), f.SETTINGS, f.NOW)
    text = cli.story({**f.body(), "status": json.loads(json.dumps(decided.status))})
    assert "CompileFailed" in text
    assert "undefined: x" in text
    assert f"kubectl logs -n shop job/{job['metadata']['name']} -c build" in text
    assert "has not seen it" in cli.story(f.body())


def test_help_fits_and_shows_examples() -> None:
    text = run("--help").output
    assert "goservice validate -f" in text
    assert len(text.splitlines()) < 40
    assert run("--version").output.startswith("goservice, version")
