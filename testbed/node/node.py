"""Start, find and stop the node: one process that holds every namespace of the cluster.

The host keeps three things of it: that process, one end of a veth pair with two routes, and the
run folder. `stop` removes all three, and the control groups that the kubelet made.
"""

import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.node import commands, layout, paths, pki, programs, progress

KUBE_NAMES = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
)
"""The parts of Kubernetes: one binary, which acts by the name that it is called by."""
CGROUPS = Path("/sys/fs/cgroup")
"""Where the kernel shows control groups."""
STOP_SECONDS = 30.0
"""Until every process of a stopped node must be gone."""
READY_SECONDS = 120.0
"""Until each part of a starting node must answer."""


@dataclass(frozen=True)
class Running:
    """A running node: its first process as the host sees it."""

    pid: int
    """Of the host's process namespace."""


def python_environment() -> dict[str, str]:
    """The variables with which the node's own Python programs start."""
    return {
        "PYTHONPATH": str(paths.PROJECT),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_CACHE_HOME": str(paths.cache().parent),
        "TMPDIR": str(paths.run() / "tmp"),
        "HOME": str(paths.run() / "home"),
        paths.MARKER: str(paths.cache()),
    }


def processes() -> dict[int, list[str]]:
    """Every process that carries this cache folder's mark, with its command line."""
    mark = f"{paths.MARKER}={paths.cache()}".encode()
    found: dict[int, list[str]] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if mark not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        found[int(folder.name)] = [word for word in words if word]
    return found


def find() -> Running | None:
    """The running node, or None."""
    own = os.readlink("/proc/self/ns/pid")
    for pid, words in processes().items():
        if "testbed.node.nodeinit" not in words or words[0].endswith("unshare"):
            continue
        try:
            inside = os.readlink(f"/proc/{pid}/ns/pid")
        except OSError:
            continue
        if inside != own:
            return Running(pid)
    return None


def prepare(binaries: dict[str, Path]) -> None:
    """Write everything that the node reads to a fresh run folder."""
    run = paths.run()
    shutil.rmtree(run, ignore_errors=True)
    for folder in ("logs", "bin", "tmp", "home", "git", "etcd", "volume-plugins", "opt"):
        (run / folder).mkdir(parents=True)
    (paths.cache() / "registry").mkdir(exist_ok=True)
    paths.modules().mkdir(exist_ok=True)
    for name in KUBE_NAMES:
        (run / "bin" / name).symlink_to(binaries["kube"])
    shim = programs.SHIM.name
    (run / "bin" / shim).symlink_to(binaries[shim])
    pki.write_all(run)
    for name, text in layout.files(run, paths.cache() / "registry").items():
        file = run / "config" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (run / "services.json").write_text(layout.plan(run, binaries, sys.executable))


def start(binaries: dict[str, Path]) -> Running:
    """Start the node and wait until its API server says that it is ready."""
    if Path("/sys/class/net", paths.HOST_LINK).exists():
        raise commands.Failed(
            f"The link {paths.HOST_LINK} exists: another test cluster runs on this machine, or one "
            "was cut off. Run `python -m testbed.node down` with the XDG_CACHE_HOME it was started "
            f"with, or `ip link delete {paths.HOST_LINK}` if nothing of it is left."
        )
    with progress.step("start the node") as step:
        step.note = "keys and configuration"
        prepare(binaries)
        with (paths.run() / "logs" / "node.log").open("ab") as output:
            subprocess.Popen(
                [
                    *("unshare", "--net", "--mount", "--pid", "--uts", "--ipc"),
                    *("--fork", "--kill-child=KILL"),
                    *(sys.executable, "-m", "testbed.node.nodeinit", str(paths.run())),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **python_environment()},
                start_new_session=True,
            )
        step.note = "namespaces"
        running = _found_within(10.0)
        link(running)
        step.note = "API server"
        wait_ready(step)
    return running


def _found_within(seconds: float) -> Running:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        running = find()
        if running is not None:
            return running
        time.sleep(0.02)
    raise commands.Failed(f"The node did not start:\n{log_tail('node')}")


def link(running: Running) -> None:
    """Join the host and the node by a veth pair, and route the cluster's addresses over it."""
    ip = shutil.which("ip") or "ip"
    peer = ["peer", "name", paths.NODE_LINK, "netns", str(running.pid)]
    commands.run([ip, "link", "add", paths.HOST_LINK, "type", "veth", *peer])
    commands.run([ip, "address", "add", f"{paths.HOST_ADDRESS}/30", "dev", paths.HOST_LINK])
    commands.run([ip, "link", "set", paths.HOST_LINK, "up"])
    for subnet in (paths.POD_SUBNET, paths.SERVICE_SUBNET):
        commands.run([ip, "route", "add", subnet, "via", paths.UPLINK_ADDRESS])


def log_tail(name: str, lines: int = 15) -> str:
    """The last lines of a program's log, for a failure's message."""
    file = paths.run() / "logs" / f"{name}.log"
    if not file.exists():
        return f"    ({file} does not exist)"
    tail = file.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join(f"    {line}" for line in [f"{file}:", *tail])


def get(path: str, timeout: float = 2.0) -> Any:
    """Ask the API server as administrator; None where it does not answer with 200."""
    certificates = paths.run() / "pki"
    try:
        context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
        context.load_cert_chain(certificates / "admin.crt", certificates / "admin.key")
        connection = http.client.HTTPSConnection(
            paths.BRIDGE_ADDRESS, 6443, timeout=timeout, context=context
        )
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return None
    if response.status != 200:
        return None
    return body.decode() if path.startswith(("/readyz", "/healthz")) else json.loads(body)


def node_ready() -> bool:
    """Whether the kubelet reports its node as Ready."""
    node = get(f"/api/v1/nodes/{paths.NODE}") or {}
    conditions = node.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def healthy() -> bool:
    """Whether the node runs, its API server is ready and its kubelet too."""
    return find() is not None and get("/readyz") == "ok" and node_ready()


def wait_ready(step: progress.Step) -> None:
    """Wait for the API server, then for the node."""
    until = time.monotonic() + READY_SECONDS
    for what, log, ready in (
        ("API server", "kube-apiserver", lambda: get("/readyz") == "ok"),
        ("kubelet", "kubelet", node_ready),
    ):
        step.note = what
        while not ready():
            if find() is None:
                raise commands.Failed(f"The node ended while it started:\n{log_tail('node')}")
            if time.monotonic() > until:
                raise commands.Failed(
                    f"The {what} is not ready after {READY_SECONDS:.0f} s:\n{log_tail(log)}"
                )
            time.sleep(0.1)


def inside(words: list[str]) -> list[str]:
    """The command that runs `words` in the node's namespaces."""
    running = find()
    if running is None:
        raise commands.Failed("No local cluster runs. Start one: python -m testbed.node up")
    return [
        *("nsenter", "--target", str(running.pid), "--net", "--mount", "--pid", "--uts", "--ipc"),
        "--",
        *words,
    ]


def cgroups() -> list[Path]:
    """The control groups of the node's pods, the deepest first."""
    roots = [CGROUPS / "kubepods", *CGROUPS.glob("*/kubepods")]
    found: list[Path] = []
    for root in roots:
        if root.is_dir():
            found.extend(folder for folder in root.rglob("*") if folder.is_dir())
            found.append(root)
    return sorted(found, key=lambda folder: len(folder.parts), reverse=True)


def stop() -> bool:
    """End the node and remove what it left; return whether there was anything to end.

    Only the cache folder stays, with the last logs in `last-logs`.
    """
    marked = processes()
    with progress.step("stop the node") as step:
        killed = [pid for pid, words in marked.items() if "testbed.node.nodeinit" in words]
        for pid in killed:
            _kill(pid)
        until = time.monotonic() + STOP_SECONDS
        # An ending process has no environment any more: process 1 is waited for by its id.
        while left := {*processes(), *(pid for pid in killed if Path(f"/proc/{pid}").exists())}:
            step.note = f"{len(left)} processes left"
            if time.monotonic() > until:
                raise commands.Failed(f"These processes of the node do not end: {sorted(left)}")
            time.sleep(0.05)
        _remove_link()
        _remove_cgroups(until)
        existed = bool(marked) or paths.run().exists()
        _remove_run()
        if not existed:
            step.skipped = "nothing runs"
    return existed


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _remove_link() -> None:
    if Path("/sys/class/net", paths.HOST_LINK).exists():
        # The pair also goes with the node's namespace, perhaps while this command runs.
        commands.succeeds(["ip", "link", "delete", paths.HOST_LINK])


def _remove_cgroups(until: float) -> None:
    while groups := cgroups():
        for group in groups:
            try:
                group.rmdir()
            except OSError:
                continue
        if time.monotonic() > until:
            raise commands.Failed(f"Control groups stay busy: {cgroups()[:3]}")
        time.sleep(0.05)


def _remove_run() -> None:
    run, last = paths.run(), paths.cache() / "last-logs"
    if (run / "logs").exists():
        shutil.rmtree(last, ignore_errors=True)
        (run / "logs").rename(last)
    for _ in range(20):
        shutil.rmtree(run, ignore_errors=True)
        if not run.exists():
            return
        time.sleep(0.1)
    shutil.rmtree(run)


def build() -> dict[str, Path]:
    """The programs that the node needs, compiled."""
    return programs.build_all()
