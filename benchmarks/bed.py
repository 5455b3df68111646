"""Everything that a measurement runs on: control plane, actor, refs server and the operator."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import audit, machine
from testbed.apiserver.controlplane import ControlPlane, Operator
from testbed.apiserver.ports import free_port
from testbed.node import progress

FLAGS = {
    "kube-controller-manager": (
        # The defaults (20 requests a second) would be what is measured.
        "--kube-api-qps=1000",
        "--kube-api-burst=2000",
        "--concurrent-deployment-syncs=20",
        "--concurrent-replicaset-syncs=20",
        "--concurrent-job-syncs=20",
    ),
    # In MiB. Past the default of 100 another file begins, and what was counted is not in it.
    "kube-apiserver": ("--audit-log-maxsize=100000",),
    # 10 000 services write more within the five minutes between compactions than fits by default.
    "etcd": ("--quota-backend-bytes=8589934592",),
}
"""What differs from the control plane of the tests, by program."""


@dataclass
class Bed:
    """A running control plane and what plays around it."""

    folder: Path
    """Logs and data, removed at the end."""
    plane: ControlPlane
    """API server, etcd and controllers."""
    operator: Operator
    """The process that is measured."""
    refs_port: int
    """Where the git server that has every repository listens."""
    helpers: dict[str, subprocess.Popen[bytes]]
    """The processes beside, by name: actor and refs server."""

    def repository(self, name: str) -> str:
        """The URL of a repository, which has one commit."""
        return f"http://127.0.0.1:{self.refs_port}/{name}.git"

    def usage(self) -> machine.Usage:
        """CPU seconds so far: of the operator, of the rest of the bed, of the whole machine."""
        names = ("etcd", "API server", "controllers")
        pids = dict(zip(names, self.plane.pids(), strict=True))
        pids |= {name: process.pid for name, process in self.helpers.items()}
        return machine.usage(self.operator.pid, pids)


@contextmanager
def bed(builds: int) -> Iterator[Bed]:
    """A fresh control plane with the CRD and the install's rights; the operator is not started.

    `builds` is the setting builds.maxConcurrent.
    """
    with tempfile.TemporaryDirectory(prefix="goservice-bench-") as name:
        folder = Path(name)
        plane = ControlPlane(folder, FLAGS, audit=audit.RULES)
        helpers: dict[str, subprocess.Popen[bytes]] = {}
        operator = Operator(
            plane,
            plane.settings(
                {
                    "git": {"allowHttp": True, "allowedNetworks": ["127.0.0.0/8"]},
                    "builds": {"maxConcurrent": builds, "maxConcurrentPerNamespace": builds},
                }
            ),
        )
        port = free_port()
        try:
            with progress.step("control plane"):
                plane.start()
                plane.install()
            helpers["refs"] = _helper(folder, "refs", str(port))
            helpers["actor"] = _helper(folder, "actor", str(plane.kubeconfig))
            yield Bed(folder, plane, operator, port, helpers)
            for title, process in helpers.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{title} ended: {(folder / f'{title}.log').read_text()}")
        finally:
            if operator.running:
                operator.stop(kill=True)
            for process in helpers.values():
                process.kill()
                process.wait()
            plane.stop()


def _helper(folder: Path, module: str, argument: str) -> subprocess.Popen[bytes]:
    with (folder / f"{module}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"testbed.apiserver.{module}", argument],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=log,
            stderr=log,
        )
