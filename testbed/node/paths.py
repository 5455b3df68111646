"""Where the local cluster is: its folders, addresses and names.

Nothing here touches the system. Every other module takes its constants from here.
"""

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
"""The package's folder, with the Go modules and the sample."""
PROJECT = HERE.parent.parent
"""The checkout."""

NODE = "goservice-node"
"""The node's name in the cluster."""
BRIDGE = "cni0"
"""The bridge that the pods are on, in the node's network namespace."""
BRIDGE_ADDRESS = "10.244.0.1"
"""The node as its pods see it."""
POD_SUBNET = "10.244.0.0/24"
"""Addresses of pods."""
SERVICE_SUBNET = "10.96.0.0/16"
"""Addresses of Services."""
FIRST_SERVICE = "10.96.0.1"
"""The API server's Service: always the first address."""

HOST_LINK = "goservice0"
"""The host's end of the veth pair between host and node."""
NODE_LINK = "uplink"
"""The node's end."""
HOST_ADDRESS = "10.245.0.1"
"""The host as the node sees it."""
UPLINK_ADDRESS = "10.245.0.2"
"""The node as the host sees it."""

API_SERVER = f"https://{BRIDGE_ADDRESS}:6443"
"""As pods and the host name it."""
REGISTRY = f"{BRIDGE_ADDRESS}:5000"
"""The open registry, without a scheme as image names have it."""
CLOSED_REGISTRY = f"{BRIDGE_ADDRESS}:5001"
"""A second registry, which wants a user and a password to push and to pull."""
GIT_PORT = 3000
"""Of the git server."""
PROXY_PORT = 3001
"""Of the Go module proxy."""
GIT = f"http://{BRIDGE_ADDRESS}:{GIT_PORT}"
"""The git server's URL."""
MODULE_PROXY = f"http://{BRIDGE_ADDRESS}:{PROXY_PORT}"
"""The Go module proxy's URL."""
METRICS_PORT = 4443
"""Of metrics-server, which runs beside the node's other programs."""

GIT_USER = "reader"
"""Whom the git server's closed half lets in."""
GIT_PASSWORD = "open-sesame"
"""The one secret of the git server's closed half; only tests use it."""

REGISTRY_USER = "pusher"
"""Whom the closed registry lets in."""
REGISTRY_PASSWORD = "canary-7f3b9c21e5d04a68"
"""What the closed registry wants; the tests look for it in everything that a build leaves."""
HTPASSWD = f"{REGISTRY_USER}:$2a$04$YnQqRQVXmHgszcfxxkOdYO5jE6XrCi4F7nQL0XZ/OVX.7L/A7JabC\n"
"""The same as bcrypt hashes it."""

MARKER = "GOSERVICE_TESTBED"
"""Environment variable that every process of the node inherits; `footprint` looks for it."""


def cache() -> Path:
    """The folder that outlives a cluster: programs, images, the registry's storage."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "goservice-testcluster"


def run() -> Path:
    """The folder of the running cluster; `down` removes it."""
    return cache() / "run"


def kubeconfig() -> Path:
    """The administrator's kubeconfig of the local cluster."""
    return run() / "kubeconfig"


def audit_log() -> Path:
    """The API server's audit log, one JSON object per line."""
    return run() / "audit.log"


def repositories() -> Path:
    """The bare repositories that the git server serves."""
    return run() / "git"


def modules() -> Path:
    """The folder that the Go module proxy serves."""
    return cache() / "modules"
