"""Process 1 of the node's namespaces: set up mounts and network, then start and watch programs.

Runs as `python -m testbed.node.nodeinit RUN_FOLDER`. When it ends, the kernel ends everything in its
process namespace, and with the last process go mounts, links and rules.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from testbed.node import paths

CACHE_IN_NODE = Path("/run/goservice-cache")
"""Where the node sees the cache folder, whatever its path on the host is."""
START_SECONDS = 60
"""Until the host's link is there, and until a program listens."""
RESTART_SECONDS = 1.0
"""Between a program's end and its next start."""


def log(text: str) -> None:
    """One line in the node's own log."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def command(*words: str) -> None:
    """Run a set-up command; a failure ends the node."""
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)


def mounts(cache: Path, run: Path) -> None:
    """Give the node its own /proc, /run, /var/log and a layer over /var/lib.

    What kubelet, containerd and the network plugins leave in fixed places stays in the run folder
    so, and the host's files stay as they are.
    """
    command("mount", "--make-rprivate", "/")
    command("mount", "-t", "proc", "proc", "/proc")
    command("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    CACHE_IN_NODE.mkdir()
    command("mount", "--bind", str(cache), str(CACHE_IN_NODE))
    inner = CACHE_IN_NODE / run.relative_to(cache)
    for folder in ("var/upper", "var/work", "log"):
        (inner / folder).mkdir(parents=True, exist_ok=True)
    layers = f"lowerdir=/var/lib,upperdir={inner}/var/upper,workdir={inner}/var/work"
    command("mount", "-t", "overlay", "-o", layers, "overlay", "/var/lib")
    command("mount", "--bind", str(inner / "log"), "/var/log")
    # Where the cache lies below /var/lib or /run, the mounts above have covered it.
    cache.mkdir(parents=True, exist_ok=True)
    command("mount", "--bind", str(CACHE_IN_NODE), str(cache))
    for folder in ("/run/lock", "/run/netns", "/var/lib/kubelet", "/var/lib/cni"):
        Path(folder).mkdir(parents=True, exist_ok=True)


def network() -> None:
    """Make the bridge of the pods, and take the link that the host moves into the node."""
    command("ip", "link", "set", "lo", "up")
    for name, value in {
        "net/ipv4/ip_forward": "1",
        "net/ipv4/conf/all/rp_filter": "0",
        "net/ipv4/conf/default/rp_filter": "0",
    }.items():
        Path("/proc/sys", name).write_text(value)
    command("ip", "link", "add", paths.BRIDGE, "type", "bridge")
    command("ip", "address", "add", f"{paths.BRIDGE_ADDRESS}/24", "dev", paths.BRIDGE)
    command("ip", "link", "set", paths.BRIDGE, "up")
    until = time.monotonic() + START_SECONDS
    while paths.NODE_LINK not in [name for _, name in socket.if_nameindex()]:
        if time.monotonic() > until:
            raise TimeoutError(f"the host did not move in the link {paths.NODE_LINK}")
        time.sleep(0.02)
    command("ip", "address", "add", f"{paths.UPLINK_ADDRESS}/30", "dev", paths.NODE_LINK)
    command("ip", "link", "set", paths.NODE_LINK, "up")
    # Without a default route the node itself would find no way to a Service before it is rewritten.
    source = ("src", paths.BRIDGE_ADDRESS)
    command("ip", "route", "add", paths.SERVICE_SUBNET, "dev", paths.BRIDGE, *source)


class Supervisor:
    """Starts the programs in order and starts again what ends."""

    def __init__(self, services: list[dict[str, Any]], logs: Path) -> None:
        self.services = services
        self.logs = logs
        self.running: dict[int, dict[str, Any]] = {}

    def start(self, service: dict[str, Any]) -> None:
        """Start one program with its own log file."""
        with (self.logs / f"{service['name']}.log").open("ab") as output:
            process = subprocess.Popen(
                service["arguments"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **service["environment"]},
                start_new_session=True,
            )
        # The loop below collects every child; Popen's own bookkeeping must not.
        process.returncode = 0
        self.running[process.pid] = service
        log(f"started {service['name']}")

    def start_all(self) -> None:
        """Start every program; one that others need must listen first."""
        for service in self.services:
            self.start(service)
            if service["listens"]:
                self.wait(service["listens"])

    def wait(self, listens: str) -> None:
        """Wait until an address accepts connections, and go on collecting children."""
        address, port = listens.rsplit(":", 1)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            self.collect()
            try:
                socket.create_connection((address, int(port)), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        log(f"nothing listens on {listens} after {START_SECONDS} s; going on")

    def collect(self) -> None:
        """Collect ended children, orphans too; start again those that are ours."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            service = self.running.pop(pid, None)
            if service is not None:
                log(f"{service['name']} ended ({os.waitstatus_to_exitcode(status)}); again")
                time.sleep(RESTART_SECONDS)
                self.start(service)

    def watch(self) -> NoReturn:
        """Collect children for ever."""
        while True:
            self.collect()
            time.sleep(0.2)


def main(run: Path) -> NoReturn:
    """Set the node up and watch its programs until it is killed."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    ctypes.CDLL(None).sethostname(paths.NODE.encode(), len(paths.NODE))
    mounts(paths.cache(), run)
    network()
    log("mounts and network are ready")
    supervisor = Supervisor(json.loads((run / "services.json").read_text()), run / "logs")
    supervisor.start_all()
    log("every program has been started")
    supervisor.watch()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
