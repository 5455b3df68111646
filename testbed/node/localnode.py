"""The local node as the end-to-end tests use it: kubectl, git pushes, the audit log and HTTP calls.

Everything on it is real: API server, kubelet, containerd, registry, metrics-server. Builds run the
stand-in of `testbed/node/executor`, or the real Kaniko where KANIKO_EXECUTOR names one.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from goservice.manifest import Manifest
from testbed.node import (
    commands,
    equipment,
    kubectl,
    node,
    nodeinit,
    paths,
    prerequisites,
    repositories,
)

OPERATOR = "system:serviceaccount:goservice-system:goservice-operator"
"""The operator's user name in the audit log."""
READS = ("get", "list", "watch")
"""Verbs of the audit log that change nothing."""
GOSERVICE = Path(sys.prefix) / "bin" / "goservice"
"""The command line as it is installed."""
REAL_KANIKO = bool(os.environ.get("KANIKO_EXECUTOR"))
"""Whether a real Kaniko builds, not the stand-in."""
BUILD_SECONDS = 240 if REAL_KANIKO else 150
"""Until a build and its rollout must be done; a real Kaniko is slower."""
CAP = 2
"""Builds at once, in all tests of the node."""
CANARY = paths.REGISTRY_PASSWORD
"""The push password: no test may find it where a build's own code can read it."""
TINY_PROGRAM = 'package main\n\nimport "time"\n\nfunc main() { time.Sleep(time.Hour) }\n'
"""A worker: it serves nothing, and little but the runtime is compiled for it."""


@dataclass(frozen=True)
class Demo:
    """What `make demo` printed, and what the machine had before."""

    output: str
    """As a user reads it."""
    operator: str
    """The operator's image with its digest."""
    before: dict[str, list[str]]
    """What `footprint` found on the machine, by kind."""
    started: float
    """When the first test of the node began, in seconds of the epoch."""


def until(what: str, found: Callable[[], Any], seconds: float = 60, every: float = 0.3) -> Any:
    """The first true answer, or an error that says what never came."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = found()
        if answer:
            return answer
        time.sleep(every)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


@dataclass(frozen=True)
class Service:
    """One GoService on the node, as its user sees it."""

    namespace: str
    """Where it is."""
    name: str
    """Of the GoService, and so of its Deployment."""

    def body(self) -> Manifest:
        """The resource as it is."""
        return kubectl.get("goservice", self.name, "-n", self.namespace)

    def status(self) -> Manifest:
        """Its status, empty while there is none."""
        return dict(self.body().get("status") or {})

    def conditions(self) -> dict[str, Manifest]:
        """Its conditions by type."""
        return {c["type"]: c for c in self.status().get("conditions") or ()}

    def says(self) -> str:
        """Ready's status and reason, once the status speaks of the current generation."""
        body = self.body()
        status = body.get("status") or {}
        if status.get("observedGeneration") != body["metadata"]["generation"]:
            return ""
        ready = next((c for c in status.get("conditions", ()) if c["type"] == "Ready"), None)
        return f"{ready['status']} {ready['reason']}" if ready else ""

    def message(self) -> str:
        """Ready's message."""
        return str(self.conditions().get("Ready", {}).get("message", ""))

    def wait_for(self, says: str, seconds: float = BUILD_SECONDS) -> Manifest:
        """Wait until Ready says this; return the status."""

        def look(_: Manifest) -> bool:
            now = self.says()
            if now.startswith("False") and now != says:
                raise AssertionError(f"{self.name} is not to say {now}")
            return now == says

        self.wait_until(f"says {says!r}", look, seconds)
        return self.status()

    def wait_until(self, what: str, found: Callable[[Manifest], Any], seconds: float = 60) -> Any:
        """Wait until the status is so; the error says what it is instead."""
        try:
            return until(f"{self.name}: {what}", lambda: found(self.status()), seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it says {self.says()!r}: {self.message()}") from None

    def patch(self, spec: Manifest) -> None:
        """`kubectl patch --type=merge`."""
        text = json.dumps({"spec": spec})
        kubectl.kubectl(
            *("patch", "goservice", self.name, "-n", self.namespace, "--type=merge", "-p", text)
        )

    def annotate(self, key: str, value: str) -> None:
        """`kubectl annotate --overwrite`."""
        kubectl.kubectl(
            *("annotate", "goservice", self.name, "-n", self.namespace, "--overwrite"),
            f"goservice.dev/{key}={value}",
        )

    def jobs(self) -> list[Manifest]:
        """Its build Jobs."""
        selector = f"goservice.dev/service={self.name}"
        items: list[Manifest] = kubectl.get("jobs", "-n", self.namespace, "-l", selector)["items"]
        return items

    def deployment(self) -> Manifest:
        """Its Deployment, with the owners of its fields."""
        return kubectl.get("deployment", self.name, "-n", self.namespace, "--show-managed-fields")

    def image(self) -> str:
        """The image that its Deployment names."""
        spec = self.deployment()["spec"]["template"]["spec"]
        return str(spec["containers"][0]["image"])

    def address(self) -> str:
        """Its Service's address, which this machine reaches over the node's link."""
        found = kubectl.get("service", self.name, "-n", self.namespace)["spec"]
        return f"http://{found['clusterIP']}:{found['ports'][0]['port']}"

    def ask(self, path: str = "/", timeout: float = 10) -> Any:
        """Its answer to a GET, read as JSON."""
        # A proxy of the environment must not see the node's addresses.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

        def answer() -> bytes:
            try:
                with opener.open(self.address() + path, timeout=timeout) as response:
                    read: bytes = response.read()
                    return read
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                return b""

        return json.loads(until(f"{self.name} answers {path}", answer, 30))


class Probes:
    """Asks a service over and over, each time on a new connection, and keeps what was no answer."""

    PROBERS = 4
    """Each asks a share of the questions, so that a slow answer delays no other."""

    def __init__(self, service: Service, per_minute: int = 1000) -> None:
        self._address = service.address()
        self._pause = 60 / per_minute * self.PROBERS
        self._over = threading.Event()
        self._asked = [0] * self.PROBERS
        self._probers = [
            threading.Thread(target=self._probe, args=(n,)) for n in range(self.PROBERS)
        ]
        self._began = self.seconds = 0.0
        self.failed: list[str] = []

    @property
    def asked(self) -> int:
        """How many questions there were."""
        return sum(self._asked)

    @property
    def per_minute(self) -> float:
        """How many there were in each minute, once it is over."""
        return self.asked / self.seconds * 60

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        for prober in self._probers:
            prober.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._began
        self._over.set()
        for prober in self._probers:
            prober.join()

    def _probe(self, number: int) -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        due = self._began + self._pause * number / self.PROBERS
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due += self._pause
            self._asked[number] += 1
            try:
                with opener.open(self._address, timeout=10) as response:
                    response.read()
            except OSError as error:
                self.failed.append(f"{time.strftime('%H:%M:%S')} {error}")


def namespace(name: str, level: str = "baseline") -> None:
    """A namespace that enforces a Pod Security level."""
    labels = {"pod-security.kubernetes.io/enforce": level}
    kubectl.apply(
        [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}]
    )


CACHES = "caches"
"""The folder of a claim that has the standard library compiled once it was used."""
VOLUME_SIZE = {"storage": "5Gi"}
"""Of each volume for caches; nothing holds them to it."""


def claim(where: str, name: str, folder: str = "") -> None:
    """A volume claim in a namespace, and its volume."""
    volume(where, name, folder=folder)
    wanted = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "",
        "volumeName": f"{where}-{name}",
        "resources": {"requests": VOLUME_SIZE},
    }
    metadata = {"name": name, "namespace": where}
    made = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata}
    kubectl.apply([{**made, "spec": wanted}])


def volume(where: str, claim_name: str, storage_class: str = "", folder: str = "") -> None:
    """A volume for a claim, on a folder that ends with the node: its own, or another one's."""
    name = f"{where}-{claim_name}"
    place = paths.run() / "claims" / (folder or name)
    wanted = {
        "capacity": VOLUME_SIZE,
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": storage_class,
        "hostPath": {"path": str(place), "type": "DirectoryOrCreate"},
        "claimRef": {"namespace": where, "name": claim_name},
    }
    made = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}}
    kubectl.apply([{**made, "spec": wanted}])


def push_secret(where: str, name: str, password: str = CANARY) -> None:
    """A Secret for the closed registry, to push and to pull with."""
    login = {"username": paths.REGISTRY_USER, "password": password}
    auth = base64.b64encode(f"{paths.REGISTRY_USER}:{password}".encode()).decode()
    config = {"auths": {paths.CLOSED_REGISTRY: {**login, "auth": auth}}}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": name, "namespace": where},
        "stringData": {".dockerconfigjson": json.dumps(config)},
    }
    kubectl.apply([secret])


def closed(where: str, name: str) -> Manifest:
    """`spec.image` for the closed registry, with the Secret `push`."""
    return {
        "repository": f"{paths.CLOSED_REGISTRY}/{where}/{name}",
        "pushSecretRef": {"name": "push"},
        "pullSecretRefs": [{"name": "push"}],
    }


def submit(
    name: str,
    where: str,
    repository: str = "",
    *,
    annotations: Mapping[str, str] | None = None,
    **spec: Any,
) -> Service:
    """Apply a GoService as a user writes it; `repository` is one of the node's git server."""
    wanted: Manifest = {"image": {"repository": f"{paths.REGISTRY}/{where}/{name}"}}
    if repository:
        wanted["source"] = {"git": {"url": repositories.url(repository)}, "pollIntervalSeconds": 3}
    for key, value in spec.items():
        old = wanted.get(key)
        wanted[key] = {**old, **value} if isinstance(old, dict) else value
    body = {
        "apiVersion": "goservice.dev/v1alpha1",
        "kind": "GoService",
        "metadata": {"name": name, "namespace": where, "annotations": dict(annotations or {})},
        "spec": wanted,
    }
    kubectl.kubectl("apply", "-f", "-", text=json.dumps(body))
    return Service(where, name)


LEAN = {"requests": {"cpu": "1m", "memory": "16Mi"}}
"""For the pods of services of which there are many: the node has two cores."""


def serving(name: str, where: str) -> Service:
    """A service that serves what the demo has built, by digest; it has no source of its own yet."""
    repository, _, digest = Service("demo", "sample").image().partition("@")
    image = {"repository": repository, "digest": digest}
    return submit(name, where, image=image, resources=LEAN)


def push(
    name: str, files: Mapping[str, str | Path], message: str = "Change", branch: str = "main"
) -> str:
    """Make files the next commit of a repository of the node's git server; return the commit.

    A path in place of a text is where a link leads.
    """
    with tempfile.TemporaryDirectory() as folder:
        for path, text in files.items():
            file = Path(folder) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(text, Path):
                file.symlink_to(text)
            else:
                file.write_text(text)
        return repositories.add(name, Path(folder), message, branch)


def tiny(go: str = "1.25", program: str = TINY_PROGRAM) -> dict[str, str]:
    """The smallest Go module: nothing but the runtime is compiled."""
    return {"go.mod": f"module example.com/tiny\n\ngo {go}\n", "main.go": program}


def push_sample(name: str, message: str = "Change", **files: str) -> str:
    """Make the sample, with more files, the next commit of a repository."""
    kept = {file.name: file.read_text() for file in equipment.SAMPLE.iterdir() if file.is_file()}
    return push(name, {**kept, **files}, message)


def goservice(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The command line of the operator, as its user runs it."""
    return subprocess.run(
        [str(GOSERVICE), *arguments, "--kubeconfig", str(paths.kubeconfig())],
        capture_output=True,
        text=True,
        check=check,
        timeout=300,
    )


def printed(command: str) -> str:
    """Run a kubectl command that the operator printed, exactly as it stands."""
    environment = {
        "KUBECONFIG": str(paths.kubeconfig()),
        "PATH": f"{prerequisites.kubectl().parent}:{os.environ['PATH']}",
    }
    return commands.run(shlex.split(command), environment=environment, timeout=60)


@dataclass(frozen=True)
class Entry:
    """One request of the audit log."""

    user: str
    """Who asked, such as system:serviceaccount:…."""
    verb: str
    """The API's verb, such as patch."""
    resource: str
    """The plural with its subresource, such as pods/log."""
    namespace: str
    """Empty for what has none."""
    name: str
    """Empty for a list and for a creation."""
    agent: str
    """The User-Agent header."""
    code: int
    """HTTP status of the answer."""
    body: Manifest
    """What was sent; empty where the policy does not keep it."""


def audit(since: int = 0) -> list[Entry]:
    """The audit log from a mark on."""
    return list(_entries(paths.audit_log().read_bytes()[since:]))


def _entries(text: bytes) -> Iterator[Entry]:
    for line in text.splitlines():
        tree = json.loads(line)
        if tree.get("stage") != "ResponseComplete":
            continue
        reference = tree.get("objectRef") or {}
        part = reference.get("subresource")
        yield Entry(
            user=tree["user"]["username"],
            verb=tree["verb"],
            resource=reference.get("resource", "") + (f"/{part}" if part else ""),
            namespace=reference.get("namespace", ""),
            name=reference.get("name", ""),
            agent=tree.get("userAgent", ""),
            code=int((tree.get("responseStatus") or {}).get("code", 0)),
            body=tree.get("requestObject") or {},
        )


def mark() -> int:
    """The end of the audit log now."""
    return paths.audit_log().stat().st_size


def writes(since: int = 0, user: str = OPERATOR) -> list[Entry]:
    """What a user wrote from a mark on; questions about rights are no writes."""
    return [
        entry
        for entry in audit(since)
        if entry.user == user
        and entry.verb not in READS
        and not entry.resource.startswith("selfsubject")
    ]


def operator_pod() -> Manifest:
    """The operator's pod."""
    pods = kubectl.get(
        "pods", "-n", "goservice-system", "-l", "app.kubernetes.io/name=goservice-operator"
    )["items"]
    running: list[Manifest] = [p for p in pods if not p["metadata"].get("deletionTimestamp")]
    assert len(running) == 1
    return running[0]


def crash() -> None:
    """Kill every program of the node at once, containers and etcd too, as a loss of power does.

    Its supervisor starts the programs again; what ran in containers is for them to start.
    """
    subprocess.run(node.inside(["sh", "-c", "kill -9 -1"]), check=True)
    until("the API server is back", _is_up, 120)


def _is_up() -> bool:
    try:
        return kubectl.kubectl("get", "--raw=/readyz", timeout=10) == "ok"
    except commands.Failed:
        return False


@contextlib.contextmanager
def short_of_memory(by: int) -> Iterator[Callable[[], None]]:
    """A node that has only some bytes of memory to give; the call that it yields takes them.

    The kubelet is told to keep all of the machine's memory free that is free now, but for these.
    """
    file = paths.run() / "config" / "kubelet.yaml"
    text = file.read_text()
    settings = yaml.safe_load(text)
    kept = _summary()["node"]["memory"]["availableBytes"] - by
    settings["evictionHard"]["memory.available"] = str(kept)
    settings["evictionPressureTransitionPeriod"] = "1s"
    neighbours: list[subprocess.Popen[bytes]] = []

    def take_it() -> None:
        # Of what is free by now: others have taken and given back since.
        free = _summary()["node"]["memory"]["availableBytes"]
        taken = max(0, free - kept) + (1 << 30)
        words = f"import time; taken = bytearray(b'1') * {taken}; time.sleep(600)"
        neighbours.append(subprocess.Popen([sys.executable, "-c", words]))

    try:
        file.write_text(yaml.safe_dump(settings))
        _restart_kubelet()
        yield take_it
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
        file.write_text(text)
        _restart_kubelet()


def _restart_kubelet() -> None:
    """The supervisor starts it again; containers go on.

    What ended left cgroups without a process: a kubelet asks for 3 s after each when it starts. One
    that has a process cannot be removed.
    """
    left = ["find", "/sys/fs/cgroup", "-depth", "-type", "d", "-path", "*/kubepods/*/pod*/*"]
    subprocess.run(
        node.inside([*left, "-exec", "rmdir", "{}", "+"]),
        check=False,
        stderr=subprocess.DEVNULL,
    )
    subprocess.run(node.inside(["pkill", "-KILL", "-x", "kubelet"]), check=True)
    time.sleep(nodeinit.RESTART_SECONDS)
    until("the kubelet is back", _summary, 60)


def _summary() -> Manifest:
    """What the kubelet measured of its node and pods; empty while it does not answer."""
    try:
        text = kubectl.kubectl("get", "--raw", f"/api/v1/nodes/{paths.NODE}/proxy/stats/summary")
    except commands.Failed:
        return {}
    return dict(json.loads(text))


def memory_used(where: str, prefix: str) -> int:
    """The bytes of memory in use by the pods of a namespace whose names begin so."""
    return sum(
        pod.get("memory", {}).get("workingSetBytes", 0)
        for pod in _summary().get("pods", ())
        if pod["podRef"]["namespace"] == where and pod["podRef"]["name"].startswith(prefix)
    )


def restart_operator(*, kill: bool = False) -> None:
    """End the operator's pod, by SIGKILL if asked for, and wait for the next one to be ready."""
    old = operator_pod()["metadata"]["name"]
    grace = ("--grace-period=0", "--force") if kill else ()
    kubectl.kubectl("delete", "pod", old, "-n", "goservice-system", *grace, timeout=120)
    wait_for_operator()


def wait_for_operator() -> None:
    """Wait until the operator's Deployment is rolled out."""
    kubectl.kubectl(
        *("rollout", "status", "deployment/goservice-operator", "-n", "goservice-system"),
        "--timeout=120s",
        timeout=150,
    )
