"""The pods of a service: Pod Security `restricted`, one container, nothing mounted but /tmp."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from goservice import names
from goservice.api.container import ContainerPort, Probe
from goservice.api.resource import GoService
from goservice.manifest import Manifest
from goservice.quantity import LARGEST, amount
from goservice.settings import Settings

CONTAINER = "app"
"""The service's container: autoscaling by ContainerResource names it."""


READINESS_SECONDS = 2
"""Between two default checks: with the kubelet's 10 a Go program waits up to 10 s for its first request."""


HOME = "/tmp"  # noqa: S108
"""The only folder that can be written to."""


ARCH_LABEL = "kubernetes.io/arch"
"""The label with which each node tells its architecture."""
LEAST_FREE_PORT = 1024
"""The port from which on everybody may listen; the amount below it needs a sysctl."""


LEAST_MEMORY_LIMIT = 64 * 2**20
"""Below this many bytes GOMEMLIMIT would make Go collect garbage without end."""


@dataclass(frozen=True)
class Deployed:
    """What the pods run: the image and the values that are part of it."""

    image: str
    """repository@sha256:…"""
    uid: int
    """The numeric user (and group) that the image is made for."""
    time_zone: str
    """Its time zone, a name of the IANA database."""
    go: str = ""
    """The module's go line, empty if it is not known."""
    arch: str = ""
    """The architecture that the image is made for; empty if it is not known: the pods go anywhere."""


def pod_template(service: GoService, settings: Settings, deployed: Deployed) -> Manifest:
    """The pods: Pod Security `restricted`, nothing mounted but /tmp."""
    ids = {"runAsUser": deployed.uid, "runAsGroup": deployed.uid}
    pull_secrets = service.spec.image.pull_secret_refs
    restart = service.restart_requested_at
    return {
        "metadata": {
            "labels": names.labels(service, "app"),
            "annotations": {
                "kubectl.kubernetes.io/default-container": CONTAINER,
                **({names.RESTARTED_AT: restart} if restart else {}),
            },
        },
        "spec": {
            "serviceAccountName": service.name,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": service.spec.rollout.termination_grace_period_seconds,
            "securityContext": {
                "runAsNonRoot": True,
                **(ids if settings.services.run_as_user else {}),
                "seccompProfile": {"type": "RuntimeDefault"},
                **_low_ports(service),
            },
            **({"nodeSelector": {ARCH_LABEL: deployed.arch}} if deployed.arch else {}),
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": key,
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": names.selector(service)},
                    "matchLabelKeys": ["pod-template-hash"],
                }
                for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
            ],
            **(
                {"imagePullSecrets": [{"name": s.name} for s in pull_secrets]}
                if pull_secrets
                else {}
            ),
            "containers": [_container(service, settings, deployed)],
            "volumes": [
                {"name": "tmp", "emptyDir": {"sizeLimit": settings.services.tmp_size_limit}}
            ],
        },
    }


def _container(service: GoService, settings: Settings, deployed: Deployed) -> Manifest:
    wanted = service.spec
    resources = effective_resources(service, settings)
    env_from = [written(e) for e in wanted.env_from]
    pre_stop = wanted.rollout.pre_stop_seconds
    return {
        "name": CONTAINER,
        "image": deployed.image,
        **({"args": list(wanted.args)} if wanted.args else {}),
        "env": environment(service, deployed, resources),
        **({"envFrom": env_from} if env_from else {}),
        **(
            {
                "ports": [
                    {"name": p.name, "containerPort": p.port, "protocol": "TCP"}
                    for p in wanted.ports
                ]
            }
            if wanted.ports
            else {}
        ),
        "resources": {kind: amounts for kind, amounts in resources.items() if amounts},
        **_probes(service),
        **({"lifecycle": {"preStop": {"sleep": {"seconds": pre_stop}}}} if pre_stop else {}),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        # A crash's last lines come into the status without a right on logs.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "tmp", "mountPath": HOME}],
    }


def _low_ports(service: GoService) -> Manifest:
    """What lets a user who is not root listen below 1024 on every container runtime."""
    if all(port.port >= LEAST_FREE_PORT for port in service.spec.ports):
        return {}
    return {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]}


def effective_resources(service: GoService, settings: Settings) -> dict[str, dict[str, str]]:
    """Requests and limits: the user's, and the platform's for what the user did not name."""
    return settings.services.resources.under(service.spec.resources)


def environment(
    service: GoService, deployed: Deployed, resources: Mapping[str, Mapping[str, str]]
) -> list[Manifest]:
    """The process's environment: ours first, so that the user's may refer to it; theirs wins."""
    wanted = service.spec
    # The image's user has no folder of his own: programs that cache in HOME would end at once.
    ours = {"TZ": deployed.time_zone, "HOME": HOME}
    if wanted.ports:
        ours["PORT"] = str(wanted.ports[0].port)
    limit = amount(resources["limits"]["memory"]) if "memory" in resources["limits"] else None
    if limit is not None and limit >= LEAST_MEMORY_LIMIT:
        share = int(limit * wanted.go.memory_limit_percent / 100)
        ours["GOMEMLIMIT"] = str(min(share, LARGEST))
    theirs = [written(e) for e in wanted.env]
    if _follows_no_cpu_limit(deployed.go):
        for variable in theirs:
            if variable["name"] == "GODEBUG" and "value" in variable:
                variable["value"] = f"containermaxprocs=1,updatemaxprocs=1,{variable['value']}"
        ours["GODEBUG"] = "containermaxprocs=1,updatemaxprocs=1"
    named = {variable["name"] for variable in theirs}
    return [{"name": k, "value": v} for k, v in ours.items() if k not in named] + theirs


def _follows_no_cpu_limit(go: str) -> bool:
    """Whether the module's go line is 1.24 or less: its GOMAXPROCS ignores the CPU limit."""
    version = re.match(r"1\.(\d+)", go)
    return version is not None and int(version[1]) <= 24


def _probes(service: GoService) -> Manifest:
    ports = service.spec.ports
    probes = service.spec.probes
    if probes.readiness is None and ports:
        port = {"port": ports[0].name}
        readiness: Manifest | None = {"tcpSocket": port, "periodSeconds": READINESS_SECONDS}
    else:
        readiness = _probe(probes.readiness, ports)
    every = {
        "startupProbe": _probe(probes.startup, ports),
        "readinessProbe": readiness,
        "livenessProbe": _probe(probes.liveness, ports),
    }
    return {name: probe for name, probe in every.items() if probe}


def _probe(probe: Probe | None, ports: list[ContainerPort]) -> Manifest | None:
    """The probe with its port filled in: the first one's. None if it asks nothing."""
    if probe is None or not probe.asks():
        return None
    result = written(probe)
    for way in ("httpGet", "tcpSocket"):
        if way in result and "port" not in result[way] and ports:
            result[way]["port"] = ports[0].name
    if "grpc" in result and "port" not in result["grpc"] and ports:
        result["grpc"]["port"] = ports[0].port
    return result


def written(model: Any) -> Manifest:
    """A core shape as it goes into an object: camelCase, without what is unset."""
    result: Manifest = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return result
