"""`make bench-build`: what a build costs on the local node, and how large its image is.

The classic Dockerfile is built in the same run, by the same executor, in the pod that the operator
rendered: only the file differs. KANIKO_EXECUTOR names a real Kaniko, as in testbed/node/README.md.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine
from goservice.manifest import Manifest
from testbed.node import images, kubectl, localnode, node, paths, prerequisites, progress

Figures = dict[str, Any]
"""Plain numbers and texts, as they are stored."""

NAMESPACE = "bench"
"""Where everything is built."""
NAME = "sample"
"""The service whose builds have a cache."""
CLASSIC = "classic"
"""The Job of the classic Dockerfile."""
CLAIM = "go-caches"
"""What the caches' claims are called, with a time behind."""
TITLES = {
    "alone": "a new service, nothing kept",
    "first": "a new service, the first of its claim",
    "next": "a new service, where others have built",
    "changed": "one changed line, caches kept",
    "unchanged": "unchanged inputs, rebuilt by hand",
    "classic": "classic Dockerfile, nothing kept",
}
"""What the tables call each build, by the name of its figures."""
FILE = Path(__file__).parent / "last-build.json"
"""Where the figures are stored unless --file says otherwise."""
LONGEST_SECONDS = 900.0
"""Until a build is given up."""


def classic(proxy: str) -> str:
    """The classic two-stage Dockerfile (docs/performance.md), on the bases that the node has."""
    return f"""\
FROM {paths.REGISTRY}/golang:1 AS builder
WORKDIR /build
ENV GOPROXY={proxy} GONOSUMDB=* GOFLAGS=-mod=mod
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -a -o httpserver .
FROM {paths.REGISTRY}/busybox:1
WORKDIR /app
COPY --from=builder /build/httpserver /app/httpserver
USER 10001:10001
ENTRYPOINT ["/app/httpserver"]
"""


def classic_job(job: Mapping[str, Any], name: str, destination: str) -> Manifest:
    """The operator's Job with another ConfigMap and destination, owned by nobody."""
    made = job["metadata"]
    text = json.dumps(copy.deepcopy(job["spec"]["template"]["spec"]))
    text = text.replace(json.dumps(made["name"]), json.dumps(name))
    pod = json.loads(text)
    pod["initContainers"] = [c for c in pod["initContainers"] if c["name"] != "toolchain"]
    for container in pod["initContainers"] + pod["containers"]:
        container["args"] = [_renamed(a, destination) for a in container.get("args", ())]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": made["namespace"]},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }


def _renamed(argument: str, destination: str) -> str:
    """An argument with the image's name in place of the service's."""
    flag, _, value = argument.partition("=")
    if flag == "--destination":
        return f"--destination={destination}"
    scheme, joint, _ = value.partition("://") if value else argument.partition("://")
    if joint and scheme == "docker":
        return f"docker://{destination}"
    return argument


def spans(pod: Mapping[str, Any]) -> dict[str, float]:
    """Seconds that each container of a finished pod ran; the kubelet knows whole seconds."""
    status = pod["status"]
    found = {}
    for container in (*status["initContainerStatuses"], *status["containerStatuses"]):
        ended = container["state"]["terminated"]
        begin, end = (datetime.fromisoformat(ended[k]) for k in ("startedAt", "finishedAt"))
        found[container["name"]] = (end - begin).total_seconds()
    return found


def compressed(manifest: Mapping[str, Any]) -> int:
    """The bytes of an image's layers, as they are pushed and pulled."""
    return sum(int(layer["size"]) for layer in manifest["layers"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="make bench-build", description=__doc__)
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.add_argument("--file", type=Path, default=FILE, help="where the figures are stored")
    given = parser.parse_args()
    executor = "real Kaniko" if os.environ.get("KANIKO_EXECUTOR") else "stand-in, not Kaniko"
    figures: Figures = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine.facts(),
        "executor": executor,
    }
    _node()
    _measure(figures)
    given.file.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2) if given.output == "json" else "\n".join(_text(figures)))
    progress.say(f"figures: {given.file}")


def _node() -> None:
    """The local node with the operator, as `make demo` leaves it."""
    prerequisites.install()
    if node.find() is None:
        subprocess.run(
            [sys.executable, "-m", "testbed.node", "demo"], cwd=paths.PROJECT, check=True
        )


def _measure(figures: Figures) -> None:
    kubectl.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait")
    localnode.namespace(NAMESPACE)
    # An earlier run's caches must not be found again.
    claim = f"{CLAIM}-{int(time.time())}"
    localnode.claim(NAMESPACE, claim)
    cache: dict[str, Any] = {"build": {"cache": {"claimName": claim}}}
    without: dict[str, Any] = {}
    repository = f"bench-{int(time.time())}"
    localnode.push_sample(repository, "First")
    for key, name, more in (
        ("alone", "alone", without),
        ("first", NAME, cache),
        ("next", "next", cache),
    ):
        with progress.step(TITLES[key]):
            service = localnode.submit(name, NAMESPACE, repository, **more)
            service.wait_for("True Serving", LONGEST_SECONDS)
        figures[key] = _built(service)
        if name != NAME:
            service.patch({"suspend": True})  # it would build the next commit too
    service = localnode.Service(NAMESPACE, NAME)
    with progress.step(TITLES["changed"]):
        first = service.image()
        localnode.push_sample(repository, "Second", **{"more.go": "package main\n"})
        localnode.until("another image", lambda: service.image() != first, LONGEST_SECONDS)
    figures["changed"] = _built(service)
    with progress.step(TITLES["unchanged"]):
        before = service.status().get("lastHandledRebuildAt")
        service.annotate("rebuild-requested-at", str(time.time()))
        service.wait_until(
            "the rebuild is handled", lambda s: s.get("lastHandledRebuildAt") != before, 60
        )
        service.wait_for("True Serving", LONGEST_SECONDS)
    figures["unchanged"] = _built(service)
    with progress.step("a change of the configuration, which builds nothing"):
        jobs, start = len(service.jobs()), time.monotonic()
        service.patch({"env": [{"name": "BENCH", "value": "1"}]})
        localnode.until("it is applied", lambda: "BENCH" in str(service.deployment()))
        figures["configuration"] = {
            "seconds": time.monotonic() - start,
            "jobs": len(service.jobs()) - jobs,
        }
    figures["image"] = _sizes(service.image())
    figures["classic"] = _classic(_newest(localnode.Service(NAMESPACE, "alone")))


def _newest(service: localnode.Service) -> Manifest:
    return max(service.jobs(), key=lambda job: str(job["metadata"]["creationTimestamp"]))


def _built(service: localnode.Service) -> Figures:
    return _job_figures(_newest(service))


def _job_figures(job: Mapping[str, Any]) -> Figures:
    metadata, status = job["metadata"], job["status"]
    created = datetime.fromisoformat(metadata["creationTimestamp"])
    ended = datetime.fromisoformat(status["completionTime"])
    selector = f"batch.kubernetes.io/job-name={metadata['name']}"
    pods = kubectl.get("pods", "-n", metadata["namespace"], "-l", selector)["items"]
    return {
        "seconds": (ended - created).total_seconds(),
        "containers": spans(pods[0]),
        "digest": pods[0]["status"]["initContainerStatuses"][-1]["state"]["terminated"]["message"],
    }


def _classic(job: Mapping[str, Any]) -> Figures:
    """The classic file in the same pod."""
    destination = f"{paths.REGISTRY}/{NAMESPACE}/{CLASSIC}:1"
    files = {"Dockerfile": classic(paths.MODULE_PROXY), "Dockerfile.dockerignore": ".git\n"}
    metadata = {"name": CLASSIC, "namespace": NAMESPACE}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": files}
    with progress.step("the classic Dockerfile by the same executor"):
        kubectl.apply([config, classic_job(job, CLASSIC, destination)])

        def ended() -> Manifest:
            found = kubectl.get("job", CLASSIC, "-n", NAMESPACE)
            conditions = found["status"].get("conditions", ())
            failed = [c for c in conditions if c["type"] == "Failed" and c["status"] == "True"]
            if failed:
                show = ("logs", "-n", NAMESPACE, f"job/{CLASSIC}", "-c", "build", "--tail=20")
                raise AssertionError(f"the classic build failed: {kubectl.kubectl(*show)}")
            return found if "completionTime" in found["status"] else {}

        done = localnode.until("the classic build ends", ended, LONGEST_SECONDS)
    return {**_job_figures(done), "image": _sizes(destination, "app/httpserver")}


def _sizes(reference: str, program: str = "") -> Figures:
    """An image's size beside that of the program in it."""
    manifest = json.loads(images.crane("manifest", reference))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image.tar"
        images.crane("export", reference, str(file))
        with tarfile.open(fileobj=io.BytesIO(file.read_bytes())) as tar:
            files = {m.name.lstrip("./"): m.size for m in tar.getmembers() if m.isfile()}
    app = {name: size for name, size in files.items() if name.startswith("app/")}
    name = program or max(app, key=lambda n: app[n])
    return {
        "compressed_bytes": compressed(manifest),
        "files_bytes": sum(files.values()),
        "program_bytes": files[name],
    }


def _text(figures: Figures) -> list[str]:
    facts = figures["machine"]
    lines = [
        f"executor: {figures['executor']}; machine: {facts['cores']} cores, {facts['processor']},"
        f" {facts['kernel']}",
        f"  {'Job created → complete':42}{'seconds':>8}  containers",
    ]
    for key, title in TITLES.items():
        found = figures[key]
        parts = ", ".join(f"{name} {seconds:.0f}" for name, seconds in found["containers"].items())
        lines.append(f"  {title:42}{found['seconds']:>8.0f}  {parts}")
    setting = figures["configuration"]
    lines.append(
        f"  {'a change of env alone':42}{setting['seconds']:>8.1f}  {setting['jobs']} Jobs (aim: 0)"
    )
    same = figures["unchanged"]["digest"] == figures["changed"]["digest"]
    lines.append(f"  the same inputs give the same digest: {'yes' if same else 'no'}")
    for key, sizes in (("image", figures["image"]), ("classic image", figures["classic"]["image"])):
        mib = {name: size / machine.MIB for name, size in sizes.items()}
        lines.append(
            f"  {key}: {mib['compressed_bytes']:.2f} MiB compressed, {mib['files_bytes']:.2f} MiB of"
            f" files, of which the program {mib['program_bytes']:.2f} MiB"
        )
    return lines


if __name__ == "__main__":
    main()
