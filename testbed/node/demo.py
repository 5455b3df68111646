"""`make demo`: from nothing to a running service, shown as it happens.

Uses only what a user has: kubectl, the `goservice` command and the manifests.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from testbed.node import (
    commands,
    equipment,
    images,
    installation,
    kubectl,
    paths,
    prerequisites,
    progress,
    providers,
)

NAMESPACE = "demo"
"""Where the demo's service is."""
NAME = "sample"
"""The demo's service."""
ZONE = "Europe/Paris"
"""The time zone that the sample answers with, to show that it arrived."""
SECONDS = 900.0
"""Until the service must serve; a first build fetches and compiles everything."""
GOSERVICE = Path(sys.prefix) / "bin" / "goservice"
"""The command line as it is installed."""


@dataclass(frozen=True)
class Shown:
    """What the demo found at its end."""

    image: str
    """What serves, with its digest."""
    answer: dict[str, Any]
    """What the sample said of its pod."""
    compressed: int | None
    """The image's size in the registry, in bytes; None where the registry is not asked."""


def goservice(wanted: equipment.Equipment) -> dict[str, Any]:
    """The one resource that a user writes."""
    image: dict[str, Any] = {"repository": wanted.repository}
    if wanted.push_secret:
        image["pushSecretRef"] = {"name": wanted.push_secret}
        image["pullSecretRefs"] = [{"name": wanted.push_secret}]
    return {
        "apiVersion": "goservice.dev/v1alpha1",
        "kind": "GoService",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "source": {"git": {"url": wanted.source}, "pollIntervalSeconds": 5},
            "image": image,
            "timeZone": ZONE,
            "autoscaling": {"maxReplicas": 3},
        },
    }


def run(*, colours: bool | None = None) -> Shown:
    """The whole demo.

    Raises:
        commands.Failed: Something did not work; the text says what and what to do.
    """
    started = time.monotonic()
    provider = providers.choose()
    kubeconfig = provider.up()
    wanted = provider.equip()
    if wanted.stand_in:
        progress.say(f"note: {wanted.stand_in}")
    installation.install(wanted, kubeconfig)
    resource = goservice(wanted)
    progress.say("\napply this GoService:\n")
    progress.say(_indented(yaml.safe_dump(resource, sort_keys=False)) + "\n")
    namespace(kubeconfig)
    if wanted.push_secret:
        _push_secret(wanted.push_secret, kubeconfig)
    kubectl.apply([resource], kubeconfig=kubeconfig)
    serving = follow(kubeconfig, wanted.commit, colours=colours)
    shown = Shown(serving, answer(kubeconfig), _compressed(serving))
    click.echo(summary(shown, kubeconfig, time.monotonic() - started), color=colours)
    return shown


def namespace(kubeconfig: Path) -> None:
    """The demo's namespace; a Kaniko build needs Pod Security level baseline."""
    labels = {"pod-security.kubernetes.io/enforce": "baseline"}
    metadata = {"name": NAMESPACE, "labels": labels}
    kubectl.apply(
        [{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}], kubeconfig=kubeconfig
    )


def _push_secret(name: str, kubeconfig: Path) -> None:
    file = os.environ[equipment.PUSH_SECRET]
    made = kubectl.kubectl(
        *("create", "secret", "generic", name, "-n", NAMESPACE, "--dry-run=client", "-o", "yaml"),
        *("--type=kubernetes.io/dockerconfigjson", f"--from-file=.dockerconfigjson={file}"),
        kubeconfig=kubeconfig,
    )
    kubectl.kubectl("apply", "-f", "-", text=made, kubeconfig=kubeconfig)


def follow(kubeconfig: Path, commit: str, *, colours: bool | None = None) -> str:
    """Show each stage and the build's log until a commit serves (any, if empty); return its image.

    Raises:
        commands.Failed: It is stalled, or not ready in time.
    """
    started, said = time.monotonic(), ""
    with _build_log(kubeconfig, colours) as log:
        while True:
            body = kubectl.get("goservice", NAME, "-n", NAMESPACE, kubeconfig=kubeconfig)
            status = body.get("status") or {}
            conditions = {c["type"]: c for c in status.get("conditions") or ()}
            ready = conditions.get("Ready", {})
            stage = f"{ready.get('reason', 'Waiting')}: {ready.get('message', '')}"
            took = progress.elapsed(time.monotonic() - started)
            if stage != said:
                said = stage
                head = click.style(f"{took:>9}  {ready.get('reason', 'Waiting')}", bold=True)
                click.echo(f"{head}  {ready.get('message', '')}", err=True, color=colours)
            if status.get("observedGeneration") == body["metadata"]["generation"]:
                newest = commit in ("", (status.get("commit") or {}).get("sha"))
                if ready.get("status") == "True" and newest:
                    return str(status["servingImage"])
                if "Stalled" in conditions:
                    raise commands.Failed(_stalled(status, ready))
            if (status.get("build") or {}).get("phase") == "Running":
                log.start(status["build"]["name"])
            if time.monotonic() - started > SECONDS:
                raise commands.Failed(
                    f"not ready after {SECONDS:.0f} s; it says {stage}\nLook at it:"
                    f" kubectl --kubeconfig {kubeconfig} describe gsvc {NAME} -n {NAMESPACE}"
                )
            time.sleep(0.5)


def _stalled(status: dict[str, Any], ready: dict[str, Any]) -> str:
    build = status.get("build") or {}
    lines = [f"{ready.get('reason')}: {ready.get('message')}"]
    if build.get("phase") == "Failed":
        lines += [*build.get("logTail", "").splitlines(), f"Log: {build.get('logsCommand', '')}"]
    return "\n".join(lines)


class _Log:
    """`goservice logs --follow` of each build, printed as it comes."""

    def __init__(self, kubeconfig: Path, colours: bool | None) -> None:
        self._kubeconfig, self._colours = kubeconfig, colours
        self._build = ""
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def start(self, build: str) -> None:
        """Follow this build, once."""
        if build == self._build:
            return
        self.stop()
        self._build = build
        self._process = subprocess.Popen(
            [
                *(str(GOSERVICE), "logs", NAME, "-n", NAMESPACE, "--follow"),
                *("--kubeconfig", str(self._kubeconfig)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._thread = threading.Thread(target=self._copy, args=(self._process,), daemon=True)
        self._thread.start()

    def _copy(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            text = click.style(f"           | {log_line(line)}", dim=True)
            click.echo(text, err=True, color=self._colours)

    def stop(self) -> None:
        """End the copying; what has come is shown."""
        if self._process is None or self._thread is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        self._process.terminate()
        self._process.wait(10)
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


def log_line(line: str) -> str:
    """One line of a build's log as the demo shows it: Kaniko's message alone, on one row."""
    message = re.search(r'msg="((?:[^"\\]|\\.)*)"', line)
    text = message[1].replace('\\"', '"') if message else line.rstrip()
    width = shutil.get_terminal_size((140, 24)).columns - 14
    return text if len(text) <= width else f"{text[: width - 1]}…"


@contextlib.contextmanager
def _build_log(kubeconfig: Path, colours: bool | None) -> Iterator[_Log]:
    log = _Log(kubeconfig, colours)
    try:
        yield log
    finally:
        log.stop()


def answer(kubeconfig: Path) -> dict[str, Any]:
    """What the service itself says, asked through the API server, which works everywhere."""
    path = f"/api/v1/namespaces/{NAMESPACE}/services/{NAME}:http/proxy/"
    until = time.monotonic() + 30
    while True:
        try:
            text = kubectl.kubectl("get", "--raw", path, kubeconfig=kubeconfig)
        except commands.Failed:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)
            continue
        try:
            found: dict[str, Any] = json.loads(text)
        except ValueError:
            found = {"answer": text[:500]}
        return found


def _compressed(image: str) -> int | None:
    """The image's compressed size in bytes; None where this machine cannot ask the registry."""
    try:
        manifest = json.loads(images.crane("manifest", image))
    except commands.Failed:
        return None
    return int(manifest["config"]["size"]) + sum(int(x["size"]) for x in manifest["layers"])


def summary(shown: Shown, kubeconfig: Path, seconds: float) -> str:
    """The end of the demo: status, answer, image and what to try next."""
    table = kubectl.kubectl("get", "gsvc", "-n", NAMESPACE, kubeconfig=kubeconfig)
    scaler = kubectl.kubectl("get", "hpa", "-n", NAMESPACE, kubeconfig=kubeconfig)
    said = shown.answer
    lines = ["", click.style("What kubectl shows", bold=True), table, scaler]
    lines.append(click.style("What the service answers", bold=True))
    if "uid" in said:
        lines += [
            f"  uid         {said['uid']}",
            f"  local time  {said['time']}",
            f"  zone        {said['location']} ({said['winter']['name']}, {said['summer']['name']})",
        ]
    else:
        lines.append(f"  {said.get('answer', said)}")
    name, _, digest = shown.image.partition("@")
    program = "kubectl" if shutil.which("kubectl") else _relative(prerequisites.kubectl())
    size = f"{shown.compressed / 1e6:.2f} MB" if shown.compressed is not None else "not known here"
    lines += [
        "",
        click.style("The image", bold=True),
        f"  {name}",
        f"  digest      {digest}",
        f"  compressed  {size}",
        "",
        click.style(f"Done in {progress.elapsed(seconds)}. Try next:", bold=True),
        f"  export KUBECONFIG={kubeconfig}",
        f"  {_relative(GOSERVICE)} status {NAME} -n {NAMESPACE}",
        f"  {program} get gsvc {NAME} -n {NAMESPACE} -o yaml",
        f"  {program} patch gsvc {NAME} -n {NAMESPACE} --type=merge"
        ' -p \'{"spec":{"timeZone":"Asia/Tokyo"}}\'',
        "",
        "Remove it all: make demo-down",
    ]
    return "\n".join(lines)


def _relative(program: Path) -> str:
    here = Path.cwd()
    for base in (here, paths.PROJECT):
        if program.is_relative_to(base):
            return str(program.relative_to(base))
    return str(program)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines())


def down() -> None:
    """Remove what the demo made; a cluster that the user passed keeps running."""
    provider = providers.choose()
    if isinstance(provider, providers.Existing):
        kubeconfig = provider.up()
        with progress.step(f"delete the namespace {NAMESPACE}"):
            kubectl.kubectl(
                *("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait"),
                kubeconfig=kubeconfig,
            )
        installation.remove(kubeconfig)
        return
    provider.down()
