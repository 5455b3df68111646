"""The local cluster, whole: prerequisites, programs, node, images, metrics.

`up` reuses what is healthy. Everything here works on the one cluster of the cache folder.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from testbed.node import commands, images, kubectl, node, paths, prerequisites, programs, progress

SETTLE_SECONDS = 60.0
"""Until metrics and default service accounts must be there, after the node is ready."""


@dataclass(frozen=True)
class Status:
    """What `status` prints."""

    state: str
    """Running, Unhealthy or Stopped."""
    pid: int | None
    """The node's first process; None if there is none."""
    kubeconfig: str
    """Its path; empty where nothing runs."""
    images: dict[str, str]
    """Digests in the registry, by image."""


def up() -> Path:
    """Start the cluster, or reuse it where it is healthy; return its kubeconfig."""
    started = time.monotonic()
    if node.find() is not None:
        if node.healthy():
            images.load_all()
            progress.say(f"cluster reused ({progress.elapsed(time.monotonic() - started)})")
            return paths.kubeconfig()
        progress.say("a cluster is there, but it is not healthy: starting anew")
        node.stop()
    elif paths.run().exists():
        node.stop()
    prerequisites.install()
    binaries = programs.build_all()
    try:
        node.start(binaries)
    except commands.Failed:
        node.stop()
        raise
    images.load_all()
    with progress.step("metrics and default service accounts") as step:
        certificate = (paths.run() / "pki" / "ca.crt").read_bytes()
        kubectl.apply(kubectl.bootstrap(certificate))
        step.note = "service account"
        _until(lambda: node.get("/api/v1/namespaces/default/serviceaccounts/default") is not None)
        step.note = "metrics API"
        _until(lambda: node.get("/apis/metrics.k8s.io/v1beta1") is not None)
    progress.say(f"cluster is up ({progress.elapsed(time.monotonic() - started)})")
    return paths.kubeconfig()


def _until(ready: Callable[[], bool]) -> None:
    until = time.monotonic() + SETTLE_SECONDS
    while not ready():
        if time.monotonic() > until:
            raise commands.Failed(
                f"Not ready after {SETTLE_SECONDS:.0f} s. Logs: {paths.run() / 'logs'}"
            )
        time.sleep(0.1)


def down() -> bool:
    """Stop the cluster and leave nothing behind but the cache folder."""
    return node.stop()


def status() -> Status:
    """What runs, and which images the registry has."""
    running = node.find()
    if running is None:
        return Status("Stopped", None, "", {})
    if not node.healthy():
        return Status("Unhealthy", running.pid, str(paths.kubeconfig()), {})
    digests = {name: images.digest(f"{paths.REGISTRY}/{name}:1") for name in images.RECIPES}
    return Status("Running", running.pid, str(paths.kubeconfig()), digests)
