"""Call kubectl with one kubeconfig, and the objects that the test bed itself needs.

The kubectl is the project's own, from its Python environment.
"""

import base64
import json
from pathlib import Path
from typing import Any

import yaml

from testbed.node import commands, paths, prerequisites

NAMESPACE = "goservice-testbed"
"""Where the test bed's own objects are."""


def kubectl(
    *arguments: str, kubeconfig: Path | None = None, text: str | None = None, timeout: float = 120
) -> str:
    """Run kubectl and return its output.

    Raises:
        commands.Failed: It ended with another code than 0.
    """
    return commands.run(
        [prerequisites.kubectl(), f"--kubeconfig={kubeconfig or paths.kubeconfig()}", *arguments],
        environment={"NO_PROXY": paths.BRIDGE_ADDRESS, "no_proxy": paths.BRIDGE_ADDRESS},
        text=text,
        timeout=timeout,
    )


def apply(objects: list[dict[str, Any]], kubeconfig: Path | None = None) -> str:
    """Apply objects on the server's side."""
    return kubectl(
        *("apply", "--server-side", "--force-conflicts", "--field-manager=goservice-testbed"),
        *("-f", "-"),
        kubeconfig=kubeconfig,
        text=yaml.safe_dump_all(objects),
    )


def get(*arguments: str, kubeconfig: Path | None = None) -> dict[str, Any]:
    """`kubectl get … -o json`, read."""
    result: dict[str, Any] = json.loads(
        kubectl("get", *arguments, "-o", "json", kubeconfig=kubeconfig)
    )
    return result


def bootstrap(certificate: bytes) -> list[dict[str, Any]]:
    """The test bed's namespace, and what makes metrics-server the API server's metrics API.

    Args:
        certificate: The authority that signed metrics-server's serving certificate, as PEM.
    """
    rules = [
        {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]},
    ]
    user = {
        "kind": "User",
        "name": "system:metrics-server",
        "apiGroup": "rbac.authorization.k8s.io",
    }

    def binding(kind: str, name: str, role_kind: str, role: str, namespace: str = "") -> Any:
        return {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role},
            "subjects": [user],
        }

    service = {"name": "metrics-server", "namespace": "kube-system"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "system:metrics-server"},
            "rules": rules,
        },
        binding(
            "ClusterRoleBinding", "system:metrics-server", "ClusterRole", "system:metrics-server"
        ),
        binding(
            "ClusterRoleBinding",
            "metrics-server:system:auth-delegator",
            "ClusterRole",
            "system:auth-delegator",
        ),
        binding(
            "RoleBinding",
            "metrics-server-auth-reader",
            "Role",
            "extension-apiserver-authentication-reader",
            "kube-system",
        ),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": service,
            "spec": {"ports": [{"name": "https", "port": 443, "targetPort": paths.METRICS_PORT}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                **service,
                "labels": {
                    "kubernetes.io/service-name": "metrics-server",
                    "endpointslice.kubernetes.io/managed-by": "goservice-testbed",
                },
            },
            "addressType": "IPv4",
            "ports": [{"name": "https", "port": paths.METRICS_PORT, "protocol": "TCP"}],
            "endpoints": [{"addresses": [paths.BRIDGE_ADDRESS], "conditions": {"ready": True}}],
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1beta1.metrics.k8s.io"},
            "spec": {
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "service": {**service, "port": 443},
                "caBundle": base64.b64encode(certificate).decode(),
            },
        },
    ]
