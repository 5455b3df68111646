"""What a cluster could leave on a machine, as plain lists to compare before and after.

Only reads. Takes what a bare machine has into account: a tool that is missing lists nothing.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from testbed.node import commands, node, paths

CGROUP_MARKS = ("kubepods", "goservice", "containerd", "runc", "cri-")
"""Parts of the names of control groups that container tools leave."""


def footprint() -> dict[str, list[str]]:
    """Processes, links, namespaces, mounts, rules and control groups, each sorted.

    Returns:
        By kind; two results are equal when nothing was left behind.
    """
    return {
        "processes": sorted(_processes()),
        "links": sorted(entry.name for entry in Path("/sys/class/net").iterdir()),
        "namespaces": sorted(_namespaces()),
        "mounts": sorted(_mounts()),
        "rules": sorted(_rules()),
        "cgroups": sorted(_cgroups()),
        "files": sorted(_files()),
        "hostname": [os.uname().nodename],
    }


def difference(
    before: dict[str, list[str]], after: dict[str, list[str]]
) -> dict[str, dict[str, list[str]]]:
    """What came and what went, by kind; empty when nothing did."""
    changed: dict[str, dict[str, list[str]]] = {}
    for kind in before.keys() | after.keys():
        old, new = set(before.get(kind, [])), set(after.get(kind, []))
        if old != new:
            changed[kind] = {"came": sorted(new - old), "went": sorted(old - new)}
    return changed


def _processes() -> Iterator[str]:
    """Processes with the node's mark, and those in another process namespace than this one."""
    for words in node.processes().values():
        yield " ".join(words[:4])
    own = os.readlink("/proc/self/ns/pid")
    for process in _numbered():
        try:
            if os.readlink(process / "ns" / "pid") != own:
                yield (process / "comm").read_text().strip()
        except OSError:
            continue


def _numbered() -> Iterator[Path]:
    return (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _namespaces() -> set[str]:
    """Network and process namespaces in use, beside this process's own, and named ones."""
    found: set[str] = set()
    for kind in ("net", "pid", "mnt"):
        own = os.readlink(f"/proc/self/ns/{kind}")
        for process in _numbered():
            try:
                namespace = os.readlink(process / "ns" / kind)
            except OSError:
                continue
            if namespace != own:
                found.add(namespace)
    named = Path("/run/netns")
    if named.is_dir():
        found.update(f"/run/netns/{entry.name}" for entry in named.iterdir())
    return found


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        yield line.split()[4]


def _rules() -> Iterator[str]:
    """Packet rules, routes and policy rules, without their counters."""
    for words in (
        ["nft", "--stateless", "list", "ruleset"],
        ["iptables-save"],
        ["ip", "route", "show", "table", "all"],
        ["ip", "rule", "show"],
    ):
        if shutil.which(words[0]) is None:
            continue
        try:
            text = commands.run(words, timeout=30)
        except commands.Failed:
            continue
        for line in text.splitlines():
            if line.strip() and not line.startswith("#"):
                yield f"{words[0]}: {line.strip().split(' [')[0]}"


def _cgroups() -> Iterator[str]:
    """The first level of every hierarchy, and everything that a container runtime names."""
    for top in node.CGROUPS.iterdir():
        if top.is_dir():
            yield from (str(entry) for entry in top.iterdir() if entry.is_dir())
    for folder, names, _ in os.walk(node.CGROUPS):
        for name in names:
            if any(mark in name for mark in CGROUP_MARKS):
                yield f"{folder}/{name}"


def _files() -> Iterator[str]:
    """The places outside the cache where container tools keep their state."""
    for name in (
        *("/run/containerd", "/run/runc", "/run/netns", "/var/lib/kubelet", "/var/lib/cni"),
        *("/var/log/pods", "/var/log/containers", "/opt/containerd", "/opt/cni"),
        *("/etc/cni/net.d", "/etc/kubernetes", str(paths.run())),
    ):
        if Path(name).exists():
            yield name
