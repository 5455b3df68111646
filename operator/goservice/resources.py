"""The objects that a service wants, one function per kind, written as their YAML would read.

Nothing here looks at what exists, but for what is handed in: the image, the replicas, a template
to keep. Every object is owned by its GoService, so deleting that is all the clean-up there is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from goservice import names
from goservice.api import resource
from goservice.api.container import ContainerPort, Probe
from goservice.api.resource import GoService
from goservice.build import dockerfile, kaniko
from goservice.build.template_inputs import template_hash
from goservice.quantity import LARGEST, amount
from goservice.settings import Settings

Manifest = dict[str, Any]

CONTAINER = "app"
"""The service's container: autoscaling by ContainerResource names it."""
READINESS_SECONDS = 2
"""Between two default checks: with the kubelet's 10 a Go program waits up to 10 s for its first request."""
LEAST_MEMORY_LIMIT = 64 * 2**20
"""Below this many bytes GOMEMLIMIT would make Go collect garbage without end."""


@dataclass(frozen=True)
class Running:
    """What the pods run: the image and the values that are part of it."""

    image: str
    """repository@sha256:…"""
    uid: int
    time_zone: str
    go: str = ""
    """The module's go line, empty if it is not known."""


def _metadata(service: GoService, name: str, component: str) -> Manifest:
    return {
        "name": name,
        "namespace": service.namespace,
        "labels": names.labels(service, component),
        "ownerReferences": [
            {
                "apiVersion": resource.API_VERSION,
                "kind": resource.KIND,
                "name": service.name,
                "uid": service.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def build_files(
    service: GoService, settings: Settings, commit: str, inputs: str, build: str
) -> Manifest:
    """The ConfigMap with the rendered Dockerfile."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(service, build, "build"),
        "immutable": True,
        "data": {
            "Dockerfile": dockerfile.render(service, settings, commit, inputs),
            "Dockerfile.dockerignore": dockerfile.dockerignore(),
        },
    }


def build_job(
    service: GoService,
    settings: Settings,
    commit: str,
    inputs: str,
    *,
    attempt: int,
    notes: Mapping[str, str],
) -> Manifest:
    """The Job that fetches, builds and pushes. `notes` are annotations that outlive the pass."""
    name = names.build(service, inputs, attempt)
    metadata = _metadata(service, name, "build")
    annotations = {
        names.COMMIT: commit,
        names.INPUTS: inputs,
        names.ATTEMPT: str(attempt),
        **notes,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**metadata, "annotations": annotations},
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "activeDeadlineSeconds": service.spec.build.timeout_seconds,
            "template": {
                "metadata": {
                    "labels": metadata["labels"],
                    "annotations": {"sidecar.istio.io/inject": "false"},
                },
                "spec": {
                    "restartPolicy": "Never",
                    "serviceAccountName": names.build_account(service),
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                    **kaniko.containers(service, settings, commit, inputs, name),
                },
            },
        },
    }


def cache_claim(service: GoService) -> Manifest | None:
    """The claim for the caches of builds, where one is to be made."""
    cache = service.spec.build.cache
    if cache is None or cache.size is None:
        return None
    storage_class = cache.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(service, names.cache_claim(service), "build"),
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            **({"storageClassName": storage_class} if storage_class else {}),
            "resources": {"requests": {"storage": cache.size}},
        },
    }


def account(service: GoService) -> Manifest:
    """The service's own ServiceAccount, without a token."""
    return _account(service, service.name, "app")


def build_account(service: GoService) -> Manifest:
    """The build's ServiceAccount, without a token."""
    return _account(service, names.build_account(service), "build")


def _account(service: GoService, name: str, component: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(service, name, component),
        "automountServiceAccountToken": False,
    }


def deployment(
    service: GoService,
    settings: Settings,
    running: Running,
    notes: Mapping[str, str],
    *,
    kept_template: Manifest | None = None,
) -> Manifest:
    """The Deployment. Without `replicas` while an autoscaler has them.

    `kept_template` is the live pod template, kept when only this operator would write it otherwise.
    """
    rollout = service.spec.rollout
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**_metadata(service, service.name, "app"), "annotations": dict(notes)},
        "spec": {
            **({} if service.spec.autoscaling else {"replicas": service.spec.replicas}),
            "revisionHistoryLimit": 5,
            "progressDeadlineSeconds": rollout.progress_deadline_seconds,
            "selector": {"matchLabels": names.selector(service)},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {
                    "maxSurge": rollout.max_surge,
                    "maxUnavailable": rollout.max_unavailable,
                },
            },
            "template": kept_template or pod_template(service, settings, running),
        },
    }


def image_of(deployment: Mapping[str, Any] | None) -> str:
    """The image that a Deployment's pods run, empty if there is none."""
    pod = ((deployment or {}).get("spec") or {}).get("template", {}).get("spec", {})
    for container in pod.get("containers", ()):
        if container.get("name") == CONTAINER:
            return str(container.get("image", ""))
    return ""


def template_inputs(service: GoService, settings: Settings, running: Running) -> str:
    """The hash of everything that reaches the pod template; an operator version is no part of it."""
    return template_hash(
        service,
        settings,
        image=running.image,
        uid=running.uid,
        time_zone=running.time_zone,
        go=running.go,
    )


def pod_template(service: GoService, settings: Settings, running: Running) -> Manifest:
    """The pods: Pod Security `restricted`, nothing mounted but /tmp."""
    ids = {"runAsUser": running.uid, "runAsGroup": running.uid}
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
            },
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
            "containers": [_container(service, settings, running)],
            "volumes": [
                {"name": "tmp", "emptyDir": {"sizeLimit": settings.services.tmp_size_limit}}
            ],
        },
    }


def _container(service: GoService, settings: Settings, running: Running) -> Manifest:
    wanted = service.spec
    resources = effective_resources(service, settings)
    env_from = [written(e) for e in wanted.env_from]
    pre_stop = wanted.rollout.pre_stop_seconds
    return {
        "name": CONTAINER,
        "image": running.image,
        **({"args": list(wanted.args)} if wanted.args else {}),
        "env": environment(service, running, resources),
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
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }


def effective_resources(service: GoService, settings: Settings) -> dict[str, dict[str, str]]:
    """Requests and limits: the user's, and the platform's for what the user did not name."""
    return settings.services.resources.under(service.spec.resources)


def environment(
    service: GoService, running: Running, resources: Mapping[str, Mapping[str, str]]
) -> list[Manifest]:
    """The process's environment: ours first, so that the user's may refer to it; theirs wins."""
    wanted = service.spec
    ours = {"TZ": running.time_zone}
    if wanted.ports:
        ours["PORT"] = str(wanted.ports[0].port)
    limit = amount(resources["limits"]["memory"]) if "memory" in resources["limits"] else None
    if limit is not None and limit >= LEAST_MEMORY_LIMIT:
        share = int(limit * wanted.go.memory_limit_percent / 100)
        ours["GOMEMLIMIT"] = str(min(share, LARGEST))
    theirs = [written(e) for e in wanted.env]
    if _follows_no_cpu_limit(running.go):
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


def service(owner: GoService) -> Manifest:
    """The Service: port 80 for the first port, the others as they are."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(owner, owner.name, "app"),
        "spec": {
            "type": "ClusterIP",
            "selector": names.selector(owner),
            "ports": [
                {
                    "name": port.name,
                    "port": service_port(port, first=index == 0),
                    "targetPort": port.name,
                    "protocol": "TCP",
                }
                for index, port in enumerate(owner.spec.ports)
            ],
        },
    }


def service_port(port: ContainerPort, *, first: bool) -> int:
    """The Service's port for a container port."""
    return port.service_port or (80 if first else port.port)


def autoscaler(service: GoService) -> Manifest:
    """The HorizontalPodAutoscaler, on the app container's own CPU so that a sidecar does not count."""
    wanted = service.spec.autoscaling
    assert wanted is not None
    target = wanted.target_cpu_utilization_percentage
    if target is None and not wanted.metrics:
        target = 80
    cpu: list[Manifest] = [
        {
            "type": "ContainerResource",
            "containerResource": {
                "name": "cpu",
                "container": CONTAINER,
                "target": {"type": "Utilization", "averageUtilization": target},
            },
        }
    ]
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _metadata(service, service.name, "app"),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": service.name},
            "minReplicas": wanted.min_replicas,
            "maxReplicas": wanted.max_replicas,
            "metrics": (cpu if target else []) + [written(m) for m in wanted.metrics],
            **({"behavior": written(wanted.behavior)} if wanted.behavior else {}),
        },
    }


def disruption_budget(service: GoService) -> Manifest:
    """The PodDisruptionBudget: a drain takes few pods at once, and never waits for broken ones."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(service, service.name, "app"),
        "spec": {
            "maxUnavailable": service.spec.disruption.max_unavailable,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": names.selector(service)},
        },
    }


def guaranteed_replicas(service: GoService) -> int:
    """The pods that there are at the least."""
    scaling = service.spec.autoscaling
    return scaling.min_replicas if scaling else service.spec.replicas


def handover(service: GoService, replicas: int) -> Manifest:
    """`replicas` alone, for the second field manager to hold until the autoscaler takes them."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": service.name, "namespace": service.namespace},
        "spec": {"replicas": replicas},
    }
