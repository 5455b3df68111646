"""The command line: offline commands whole, the others on a cluster in memory or a server's words."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result
from typing_extensions import override

from goservice import errors
from goservice.api import parsing, resource
from goservice.cli import logs, rebuild, status, target
from goservice.cli.main import kubectl_complete, main
from goservice.cli.words import Trouble, rendered
from goservice.decide import plan
from goservice.objects import children
from goservice.objects.children import Upkeep
from testbed.inmemory.world import Request, World
from tests.support import corpus
from tests.support import factories as f

SAMPLE = Path(__file__).parents[2] / "manifests" / "samples" / "checkout.yaml"


def run(
    *arguments: str,
    given: str | bytes | None = None,
    env: dict[str, str] | None = None,
    color: bool = False,
) -> Result:
    return CliRunner(env=env).invoke(main, arguments, input=given, color=color)


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
    result = run("render", "-f", "-", given=yaml.safe_dump(f.body(**corpus.EVERYTHING)))
    assert result.exit_code == 0
    kinds = [d["kind"] for d in yaml.safe_load_all(result.output)]
    assert kinds == [
        child.kind.kind for child in children.CHILDREN if child.upkeep is not Upkeep.WATCHED
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
    assert "FROM busybox:" in result.output
    assert f.COMMIT in result.output
    assert run("render", "-f", str(SAMPLE), "--commit", "main").exit_code == 2


def test_render_a_dockerfile_that_builds_anywhere() -> None:
    command = ("render", "-f", "-", "--dockerfile", "--toolchain")
    result = run(*command, "Image", given=yaml.safe_dump(f.body()))
    assert "FROM golang:" in result.output
    assert "/toolchain" not in result.output
    packages = yaml.safe_dump(f.body(build={"packages": ["tzdata"]}))
    refused = run(*command, "Mounted", given=packages)
    assert refused.exit_code == 2
    # The resource's own rule, in its own words.
    rule = "spec.build.toolchain: must not be Mounted where packages are installed"
    assert f"--toolchain: checkout: {rule}" in refused.output


def test_bad_settings_are_told(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("images: {}\nnope: 1\n")
    result = run("render", "-f", str(SAMPLE), "--settings", str(file))
    assert result.exit_code == 2
    assert "nope: is not a setting" in result.stderr


def test_crd_is_the_committed_one() -> None:
    committed = Path(__file__).parents[2] / "crds" / "goservices.goservice.dev.yaml"
    assert run("crd").output == committed.read_text()


def test_the_story_of_a_failed_build() -> None:
    service = f.service()
    job = f.job(service, ended="Failed")
    pod = f.broken_pod(job)
    decided = plan.decide(service, f.observed(job, pod), f.SETTINGS, f.NOW)
    text = status.story({**f.body(), "status": json.loads(json.dumps(decided.status))})
    assert "CompileFailed" in text
    assert "undefined: x" in text
    assert f"kubectl logs -n shop job/{job['metadata']['name']} -c build" in text
    assert "has not seen it" in status.story(f.body())


COMMANDS = [name for name, command in main.commands.items() if not command.hidden]


def test_help_shows_examples_and_exit_codes() -> None:
    text = run("--help").output
    assert "goservice validate -f" in text
    assert "Exit codes:" in text
    assert run("--version").output.startswith("goservice, version")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_has_examples_and_fits_a_terminal(name: str) -> None:
    lines = run(name, "--help").output.splitlines()
    assert any(line.startswith(f"    goservice {name}") for line in lines)
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 30


# --- files ----------------------------------------------------------------------------------------


def written(folder: Path, name: str, **changes: Any) -> Path:
    body = f.body(**changes)
    body["metadata"]["name"] = name
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(body))
    return file


def test_files_and_folders_are_read_together(tmp_path: Path) -> None:
    folder = tmp_path / "deploy"
    folder.mkdir()
    written(folder, "a")
    written(folder, "b")
    (folder / "readme.txt").write_text("not: [yaml")
    result = run("validate", "-f", str(folder), "-f", str(written(tmp_path, "c")))
    assert result.exit_code == 0
    assert result.output.splitlines() == [f"goservice/{name} is valid" for name in "abc"]
    rendered = list(yaml.safe_load_all(run("render", "-f", str(folder)).output))
    assert [d["metadata"]["name"] for d in rendered if d["kind"] == "Deployment"] == ["a", "b"]


def test_a_fault_among_several_services_is_told_with_file_and_name(tmp_path: Path) -> None:
    good, bad = written(tmp_path, "good"), written(tmp_path, "bad", replicas=-1)
    result = run("validate", "-f", str(good), "-f", str(bad))
    assert result.exit_code == 2
    assert result.stderr == f"{bad}: bad: spec.replicas: must be at least 0, not -1\n"


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    result = run("validate", "-f", str(tmp_path))
    assert result.exit_code == 2
    assert "has no file called *.yaml or *.yml" in result.stderr


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"spec:\n  a: b: c\n", ":2:7: is not YAML: mapping values are not allowed here"),
        (b"a: [\nb: }", ":2:4: is not YAML: "),
        (b"a:\n  \x00", ":2:3: is not YAML: unacceptable character U+0000"),
        (b"a:\n  \xff", ":2:3: is not UTF-8: byte 0xff; save it as UTF-8"),
    ],
)
def test_what_is_not_yaml_is_told_with_file_and_line(
    tmp_path: Path, data: bytes, where: str
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(data)
    for told, result in (
        (str(file), run("validate", "-f", str(file))),
        ("standard input", run("validate", "-f", "-", given=data)),
    ):
        assert result.exit_code == 2
        assert f"error: {told}{where}" in result.stderr
        assert len(result.stderr.splitlines()) == 1


# --- which cluster ----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["status", "a"], ["status"], ["logs", "a"], ["rebuild", "a"]])
def test_a_missing_kubeconfig_is_told(tmp_path: Path, command: list[str]) -> None:
    result = run(*command, env={"KUBECONFIG": str(tmp_path / "none")})
    assert result.exit_code == 1
    assert f"no kubeconfig: there is no file {tmp_path / 'none'}" in result.stderr
    assert "export KUBECONFIG=FILE" in result.stderr


@pytest.mark.parametrize("text", ["{}", "a: b: c", "- a"])
def test_a_kubeconfig_that_is_none_is_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(text)
    result = run("status", "a", "--kubeconfig", str(file))
    assert result.exit_code == 1
    assert "no connection to a cluster" in result.stderr
    assert f"kubectl --kubeconfig {file} config view" in result.stderr


def kubeconfig(folder: Path, address: str, namespace: str = "shop") -> Path:
    file = folder / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": address}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [
            {"name": "x", "context": {"cluster": "c", "user": "u", "namespace": namespace}},
            {"name": "y", "context": {"cluster": "c", "user": "u", "namespace": "other"}},
        ],
        "current-context": "x",
    }
    file.write_text(yaml.safe_dump(config))
    return file


def test_the_namespace_is_the_options_or_the_contexts(tmp_path: Path) -> None:
    file = str(kubeconfig(tmp_path, "http://127.0.0.1:9"))
    assert target.Target("mine", file).where() == "mine"
    assert target.Target(None, file).where() == "shop"
    assert target.Target(None, file, "y").where() == "other"
    assert target.Target(None, file, "z").where() == "default"


@contextlib.contextmanager
def server(code: int, said: dict[str, Any] | None) -> Iterator[str]:
    """An API server that answers everything with one refusal."""

    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = json.dumps({"kind": "Status", **said}).encode() if said else b"404 not found"
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        @override
        def log_message(self, *arguments: Any) -> None:
            pass

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}"
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("code", "said", "words"),
    [
        (404, None, ["the CRD is not installed", "goservice crd | kubectl apply --server-side"]),
        (
            403,
            {"reason": "Forbidden", "message": 'User "ann" cannot get resource'},
            ["not allowed", 'User "ann" cannot', "the role view", "in the namespace shop"],
        ),
        (
            401,
            {"reason": "Unauthorized", "message": "Unauthorized"},
            ["does not accept the kubeconfig's credentials", "log in"],
        ),
        (503, {"message": "starting"}, ["does not answer", "cluster-info"]),
    ],
)
@pytest.mark.parametrize("command", [["status", "a"], ["status"], ["logs", "a"], ["rebuild", "a"]])
def test_what_a_server_refuses_is_told_with_the_way_out(
    tmp_path: Path, command: list[str], code: int, said: dict[str, Any] | None, words: list[str]
) -> None:
    with server(code, said) as address:
        result = run(*command, "--kubeconfig", str(kubeconfig(tmp_path, address)))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    for word in words:
        assert word in result.stderr


def test_a_server_that_is_away_is_told(tmp_path: Path) -> None:
    with server(404, None) as address:
        file = kubeconfig(tmp_path, address)
    result = run("status", "a", "--kubeconfig", str(file))
    assert result.exit_code == 1
    assert "the cluster does not answer" in result.stderr
    assert f"kubectl --kubeconfig {file} cluster-info" in result.stderr


# --- services of a cluster ---------------------------------------------------------------------------


@pytest.mark.parametrize("terminal", [True, False])
async def test_a_slow_answer_is_told_on_a_terminal_only(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World()
    added(world, "a")
    get = world.get

    async def slowly(*arguments: Any) -> Any:
        await asyncio.sleep(0.05)
        return await get(*arguments)

    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setattr(target, "PATIENCE", 0.01)
    await target.find_service(world, "shop", "a")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(world, "get", slowly)
    await target.find_service(world, "shop", "a")
    said = "waiting for the API server's answer\n" if terminal else ""
    assert capsys.readouterr().err == said


def added(world: World, name: str, namespace: str = "shop", **changes: Any) -> dict[str, Any]:
    body = f.body(**changes)
    body["metadata"] |= {"name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}"}
    return world.add(body)


def reported(world: World, name: str, state: str, reason: str, **more: Any) -> None:
    ready = {"type": "Ready", "status": state, "reason": reason, "message": f"{reason}."}
    conditions = [ready, *more.pop("conditions", ())]
    world.set_status(
        resource.KIND, "shop", name, {"observedGeneration": 1, "conditions": conditions, **more}
    )


@pytest.mark.parametrize(
    ("name", "where", "hint"),
    [
        ("chekout", "shop", "did you mean checkout?"),
        ("zzz", "shop", "there are: checkout, payment"),
        ("checkout", "test", "there is one in the namespace shop: add -n shop"),
        ("zzz", "test", "the namespace test has none; all there are: goservice status -A"),
    ],
)
async def test_an_unknown_name_is_told_with_the_names_there_are(
    name: str, where: str, hint: str
) -> None:
    world = World()
    added(world, "checkout")
    added(world, "payment")
    for question in (
        status.show(world, where, name, "text", watch=False),
        logs.show(world, where, name, follow=False),
        rebuild.request(world, where, name),
    ):
        with pytest.raises(Trouble) as told:
            await question
        assert str(told.value) == f"there is no GoService {where}/{name}; {hint}"
    assert not world.writes


async def test_names_are_told_of_the_own_namespace_where_all_may_not_be_listed() -> None:
    world = World()
    added(world, "checkout")

    def refuse(request: Request) -> None:
        if request.verb == "list" and request.namespace is None:
            raise errors.Forbidden("no", status=403)

    world.before = refuse
    with pytest.raises(Trouble, match="did you mean checkout"):
        await status.show(world, "shop", "checkuot", "text", watch=False)
    with pytest.raises(Trouble, match="goservice status -n NAMESPACE"):
        await status.show_all(world, None, "text")


async def test_status_ends_as_the_service_is(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    added(world, "a")
    assert await status.show(world, "shop", "a", "text", watch=False) == 1
    assert "has not seen it" in capsys.readouterr().out
    reported(world, "a", "False", "CompileFailed")
    assert await status.show(world, "shop", "a", "json", watch=False) == 1
    assert json.loads(capsys.readouterr().out)["conditions"][0]["reason"] == "CompileFailed"
    reported(world, "a", "True", "Serving")
    assert await status.show(world, "shop", "a", "text", watch=True) == 0
    world.edit(resource.KIND, "shop", "a", lambda body: body["spec"].update(replicas=2))
    assert await status.show(world, "shop", "a", "text", watch=False) == 1
    assert "has not acted on the newest change" in capsys.readouterr().out


async def test_watching_ends_once_the_service_is_stalled(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = World()
    added(world, "a")
    reported(world, "a", "Unknown", "Building")
    watching = asyncio.ensure_future(status.show(world, "shop", "a", "text", watch=True))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not watching.done()
    stalled = {"type": "Stalled", "status": "True", "reason": "CompileFailed"}
    reported(world, "a", "False", "CompileFailed", conditions=[stalled])
    assert await watching == 1
    told = capsys.readouterr().out
    assert told.index("Building") < told.index("CompileFailed")


def test_the_story_names_what_is_wrong_beside_ready() -> None:
    body = f.body()
    said = "git.example.com does not answer"
    body["status"] = {
        "observedGeneration": 1,
        "conditions": [
            {"type": "Ready", "status": "True", "reason": "Serving", "message": "It serves."},
            {
                "type": "SourceResolved",
                "status": "False",
                "reason": "GitUnavailable",
                "message": said,
            },
        ],
    }
    text = click.unstyle(rendered(status.story(body)))
    assert f"SourceResolved GitUnavailable: {said}" in text


async def test_status_without_a_name_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    added(world, "checkout")
    added(world, "far", "other")
    commit = {"sha": "c" * 40}
    reported(world, "checkout", "True", "Serving", replicas=2, readyReplicas=1, commit=commit)
    assert await status.show_all(world, "shop", "text") == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "READY", "REASON", "PODS", "COMMIT", "AGE"]
    assert click.unstyle(row).split()[:5] == ["checkout", "True", "Serving", "1/2", "c" * 12]
    assert head.index("REASON") == click.unstyle(row).index("Serving")
    await status.show_all(world, None, "text")
    lines = [click.unstyle(line).split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][0] == "NAMESPACE"
    assert [line[:2] for line in lines[1:]] == [["other", "far"], ["shop", "checkout"]]
    await status.show_all(world, "shop", "json")
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["name"], found["status"]["replicas"]) == ("checkout", 2)
    assert await status.show_all(world, "none", "text") == 0
    assert "no GoServices in the namespace none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172800, "2d")],
)
def test_ages_are_short(seconds: int, text: str) -> None:
    assert status.age(f.stamp(f.NOW), f.later(seconds)) == text


def test_options_that_do_not_go_together_are_refused() -> None:
    assert run("status", "-w").exit_code == 2
    assert run("status", "a", "-A").exit_code == 2


async def test_rebuild_writes_the_request_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = World()
    added(world, "a")
    added(world, "held", suspend=True)
    added(world, "pinned", image={"repository": "r.example.com/a", "digest": f.DIGEST})
    assert await rebuild.request(world, "shop", "a") == 0
    live = world.find(resource.KIND, "shop", "a")
    assert live is not None
    assert resource.REBUILD_ANNOTATION in live["metadata"]["annotations"]
    await rebuild.request(world, "shop", "held")
    assert "suspended" in capsys.readouterr().out
    with pytest.raises(Trouble, match=r"spec\.image\.digest is set"):
        await rebuild.request(world, "shop", "pinned")
    assert world.writes == [("patch", resource.KIND, "a"), ("patch", resource.KIND, "held")]


# --- logs -------------------------------------------------------------------------------------------


def building(world: World) -> dict[str, Any]:
    """A service whose build has a Job; the Job."""
    service = parsing.parse(world.add(f.body()))
    job = world.add(f.job(service))
    build = {"name": job["metadata"]["name"], "phase": "Running"}
    reported(world, "checkout", "Unknown", "Building", build=build)
    return job


def has_a_pod(
    world: World,
    job: dict[str, Any],
    containers: tuple[str, ...] = ("fetch", "build", "push"),
    **pod_status: Any,
) -> None:
    """The Job's pod, and a line of log in each container."""
    pod = f.pod(job)
    *first, last = ({"name": container} for container in containers)
    pod["spec"] = {"initContainers": first, "containers": [last, {"name": "istio-proxy"}]}
    name = pod["metadata"]["name"]
    pod["metadata"]["labels"] = {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    world.add(pod)
    world.set_status("Pod", "shop", name, pod_status)
    for container in containers:
        world.log["shop", name, container] = [f"\x1b[31m{container} says"]


async def test_logs_are_printed_container_by_container(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    ended = [f.terminated("fetch"), f.terminated("build")]
    last = [{"name": "push", "state": {"running": {}}}]
    has_a_pod(
        world, building(world), phase="Running", initContainerStatuses=ended, containerStatuses=last
    )
    assert await logs.show(world, "shop", "checkout", follow=False) == 0
    lines = [click.unstyle(line) for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if line.startswith("---")] == [
        "--- fetch",
        "--- build",
        "--- push",
    ]
    assert sum("says" in line for line in lines) == 3
    assert not any("\x1b[31m" in line for line in lines)


async def test_logs_of_a_build_that_failed_end_with_the_container_that_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = World()
    ended = [f.terminated("fetch"), f.terminated("build", 1)]
    has_a_pod(
        world, building(world), phase="Failed", initContainerStatuses=ended, containerStatuses=[]
    )
    assert await logs.show(world, "shop", "checkout", follow=True) == 0
    assert "--- push" not in capsys.readouterr().out


async def test_logs_show_the_toolchain_container_where_it_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = World()
    every = ("fetch", "toolchain", "build", "push")
    ended = [f.terminated("fetch"), f.terminated("toolchain", 1)]
    has_a_pod(
        world,
        building(world),
        every,
        phase="Failed",
        initContainerStatuses=ended,
        containerStatuses=[],
    )
    assert await logs.show(world, "shop", "checkout", follow=False) == 0
    shown = click.unstyle(capsys.readouterr().out)
    assert "--- toolchain\n" in shown
    assert "toolchain says\n" in shown
    assert "--- build" not in shown


async def test_logs_say_why_there_are_none() -> None:
    world = World()
    added(world, "fresh")
    added(world, "queued")
    reported(world, "queued", "Unknown", "BuildQueued", build={"name": "q", "phase": "Queued"})
    added(world, "pinned", image={"repository": "r.example.com/a", "digest": f.DIGEST})
    added(world, "old")
    reported(world, "old", "True", "Serving", build={"name": "old-build", "phase": "Succeeded"})
    building(world)
    for name, words in (
        ("fresh", "does not exist yet; wait for it: goservice logs fresh -n shop --follow"),
        ("queued", "is queued; wait for it"),
        ("pinned", "builds nothing: spec.image.digest is set"),
        ("old", "the log of build shop/old-build is gone with its pod"),
        ("checkout", "has no pod yet; wait for it: add --follow"),
    ):
        with pytest.raises(Trouble) as told:
            await logs.show(world, "shop", name, follow=False)
        assert words in str(told.value)


async def test_following_says_what_it_waits_for_on_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = World()
    job = building(world)
    name = job["metadata"]["name"]
    following = asyncio.ensure_future(logs.show(world, "shop", "checkout", follow=True, patience=0))
    for _ in range(10):
        await asyncio.sleep(0)
    told = capsys.readouterr()
    assert told.out == ""
    assert f"waiting for the pod of Job shop/{name}" in click.unstyle(told.err)
    state = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    has_a_pod(
        world, job, phase="Pending", initContainerStatuses=[{"name": "fetch", "state": state}]
    )
    said = ""
    while "ImagePullBackOff" not in said and not following.done():
        await asyncio.sleep(0.1)
        said += capsys.readouterr().err
    assert "waiting for container fetch: ImagePullBackOff: no such image" in said
    world.remove(resource.KIND, "shop", "checkout")
    with pytest.raises(errors.NotFound):
        await following


def test_waiting_is_silent_at_first_and_never_says_a_thing_twice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    patient, hasty = logs.Waiting(3600), logs.Waiting(0)
    patient.on("a pod")
    assert capsys.readouterr().err == ""
    for what in ("a pod", "a pod", "a container"):
        hasty.on(what)
    assert click.unstyle(capsys.readouterr().err).splitlines() == [
        "waiting for a pod",
        "waiting for a container",
    ]


# --- terminals and shells -----------------------------------------------------------------------------


def test_colours_are_for_terminals_and_no_color_switches_them_off() -> None:
    refused = partial(run, "validate", "-f", "-", given="kind: Pod\n")
    assert "\x1b[31m" in refused(color=True).stderr
    assert "\x1b" not in refused(color=True, env={"NO_COLOR": "1"}).stderr
    assert "\x1b" not in refused().stderr


def complete(monkeypatch: pytest.MonkeyPatch, out: pytest.CaptureFixture[str], *words: str) -> str:
    """What the completion program prints to kubectl for these words."""
    monkeypatch.setattr("sys.argv", ["kubectl_complete-goservice", *words])
    kubectl_complete()
    return out.readouterr().out


def test_kubectl_is_told_commands_options_and_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    completed = partial(complete, monkeypatch, capsys)
    commands = completed("").splitlines()
    assert [line.partition("\t")[0] for line in commands[:-1]] == sorted(COMMANDS)
    assert commands[-1] == ":4"
    assert "--all-namespaces\t" in completed("status", "--all")
    assert completed("validate", "-f", "che").splitlines()[-1] == ":0"
    found = {"kind": "GoServiceList", "items": [f.body()], "metadata": {}}
    with server(200, found) as address:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, address)))
        assert completed("status", "ch").splitlines() == ["checkout", ":4"]
        assert completed("logs", "x").splitlines() == [":4"]
    assert completed("status", "ch").splitlines() == [":4"]
