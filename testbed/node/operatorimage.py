"""Build the operator's own image in the cluster, from the project's Dockerfile.

Wheels are made on the host. The context travels as an image layer; a Job copies it to where the
executor reads it, and the executor (the same as in every build pod) makes and pushes the image.
"""

import hashlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from testbed.node import commands, images, kubectl, layers, paths, progress

NAME = "goservice-operator"
"""The image's name in the registry."""
TAG = "dev"
"""One tag: what is deployed is named by digest."""
REFERENCE = f"{paths.REGISTRY}/{NAME}:{TAG}"
"""The image as pods name it."""
SOURCES = (
    "Dockerfile",
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "operator",
    "templates",
    "crds",
)
"""What the Dockerfile reads, from the project's root."""
SECONDS = 600.0
"""Until the Job that builds the image is given up."""


def sources_hash(project: Path = paths.PROJECT) -> str:
    """The hash of everything that decides what is in the operator's image."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {images.operator_base().hash}".encode())
    for name in SOURCES:
        top = project / name
        files = sorted(top.rglob("*")) if top.is_dir() else [top]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"\0{file.relative_to(project)}\0".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()


def build() -> str:
    """Build and push the image unless nothing changed; return it as `registry/name@digest`."""
    stamp = paths.cache() / "images" / f"{NAME}.json"
    wanted = sources_hash()
    with progress.step(f"image {NAME}:{TAG}, built in the cluster") as step:
        there = images.digest(REFERENCE)
        known = json.loads(stamp.read_text()) if stamp.exists() else {}
        if there and known == {"hash": wanted, "digest": there}:
            step.skipped = "unchanged"
            return _pinned(there)
        step.note = "wheels"
        wheels = _wheels()
        step.note = "context"
        context = images.load(_context(wheels, wanted))
        step.note = "build Job"
        built = _run_job(f"{paths.REGISTRY}/operator-context@{context}", wanted, step)
        there = images.digest(REFERENCE)
        if built != there:
            raise commands.Failed(f"The build reports {built}, the registry has {there}")
        stamp.write_text(json.dumps({"hash": wanted, "digest": there}))
    return _pinned(there)


def _pinned(digest: str) -> str:
    return f"{paths.REGISTRY}/{NAME}@{digest}"


def _wheels() -> Path:
    """The operator's wheel and those of its dependencies; the latter are kept in the cache."""
    project = paths.PROJECT
    decides = (project / "constraints.txt").read_bytes() + (project / "pyproject.toml").read_bytes()
    key = hashlib.sha256(decides + repr(sys.version_info[:2]).encode()).hexdigest()[:16]
    kept = paths.cache() / "wheels" / key
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    if not kept.exists():
        partial = kept.with_name(f".{key}")
        shutil.rmtree(partial, ignore_errors=True)
        commands.run([*pip, "-c", project / "constraints.txt", "-w", partial, project], timeout=900)
        partial.rename(kept)
    for old in kept.glob("goservice_operator-*.whl"):
        old.unlink()
    commands.run([*pip, "--no-deps", "-w", kept, project], timeout=300)
    return kept


def _context(wheels: Path, wanted: str) -> images.Recipe:
    def make(folder: Path) -> Path:
        target = folder / "context.tar"
        entries: list[layers.Entry] = [
            *images.busybox_entries(),
            ("context/Dockerfile", paths.PROJECT / "Dockerfile", 0o644),
            ("context/wheels", wheels, 0o755),
        ]
        layers.write(target, entries)
        return target

    return images.Recipe("operator-context:1", wanted, make, {"PATH": images.SEARCH_PATH})


def job(context: str, name: str) -> dict[str, Any]:
    """The Job: copy the context, then build and push as in a build pod."""
    mounts = [{"name": "context", "mountPath": "/kaniko/buildcontext"}]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": kubectl.NAMESPACE},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": int(SECONDS),
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "volumes": [{"name": "context", "emptyDir": {}}],
                    "initContainers": [
                        {
                            "name": "context",
                            "image": context,
                            "command": ["cp", "-r", "/context/.", "/kaniko/buildcontext/"],
                            "volumeMounts": mounts,
                        }
                    ],
                    "containers": [
                        {
                            "name": "build",
                            "image": f"{paths.REGISTRY}/executor:1",
                            "imagePullPolicy": "Always",
                            "args": [
                                "--dockerfile=/kaniko/buildcontext/Dockerfile",
                                "--context=dir:///kaniko/buildcontext",
                                f"--build-arg=BASE={paths.REGISTRY}/operator-base:1",
                                f"--destination={REFERENCE}",
                                f"--insecure-registry={paths.REGISTRY}",
                                "--digest-file=/dev/termination-log",
                                "--snapshot-mode=redo",
                                "--ignore-path=/product_uuid",
                            ],
                            "env": [{"name": "container", "value": "kube"}],
                            "volumeMounts": mounts,
                        }
                    ],
                }
            },
        },
    }


def _run_job(context: str, wanted: str, step: progress.Step) -> str:
    name = f"operator-image-{wanted[:10]}"
    delete = ("delete", "job", name, "-n", kubectl.NAMESPACE, "--ignore-not-found", "--wait")
    kubectl.kubectl(*delete)
    kubectl.apply([job(context, name)])
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        pods = kubectl.get("pods", "-n", kubectl.NAMESPACE, "-l", f"job-name={name}")["items"]
        for pod in pods:
            for status in pod["status"].get("containerStatuses", []):
                ended = status["state"].get("terminated")
                if ended is None:
                    continue
                if ended["exitCode"] == 0:
                    kubectl.kubectl(*delete)
                    return str(ended["message"]).strip()
                raise commands.Failed(_failure(name, ended["exitCode"]))
            if pod["status"].get("phase") == "Failed":
                raise commands.Failed(_failure(name, "none"))
        step.note = "build Job runs" if pods else "build Job waits for its pod"
        time.sleep(0.5)
    raise commands.Failed(_failure(name, "none in time"))


def _failure(name: str, code: object) -> str:
    try:
        log = kubectl.kubectl(
            "logs", f"job/{name}", "-n", kubectl.NAMESPACE, "--all-containers", "--tail=20"
        )
    except commands.Failed as error:
        log = str(error)
    return (
        f"The Job {name} that builds the operator's image ended with code {code}:\n{log}\n"
        f"Look at it: kubectl -n {kubectl.NAMESPACE} describe job {name}"
    )
