"""The shapes that the resource takes over from Kubernetes' own API, written out in full.

They carry the core names, so that people can copy from any Deployment. What could reach out of the
pod is left out: a probe has no `host`, resources have no `claims`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from goservice.spec.types import (
    EnvName,
    Model,
    ObjectName,
    PortName,
    PortOrName,
    Quantity,
    Rule,
    Text,
    listing,
)

Seconds = Annotated[int, Field(ge=0, le=86400)]
LabelKey = Annotated[
    str,
    Text(
        r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?",
        317,
        "a label key",
    ),
]
LabelValue = Annotated[
    str, Text(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?", 63, "a label value")
]
Key = Annotated[str, Text(r"[-._a-zA-Z0-9]+", 253, "a key of letters, digits, -, _ and .")]
ResourceName = Annotated[
    str,
    Text(
        r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[a-z0-9A-Z]([-A-Za-z0-9_.]*[A-Za-z0-9])?",
        253,
        "a resource name such as cpu or memory",
    ),
]


def exactly_one(*fields: str) -> Rule:
    """The rule that one of several optional fields is set."""
    from_cel = " + ".join(f"(has(self.{field}) ? 1 : 0)" for field in fields)
    attributes = [_snake(field) for field in fields]
    return Rule(
        f"{from_cel} == 1",
        f"must have exactly one of {', '.join(fields)}",
        lambda model: sum(getattr(model, a) is not None for a in attributes) == 1,
    )


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


class LocalReference(Model):
    """An object in the same namespace."""

    name: ObjectName
    """Its name."""


class KeyReference(Model):
    """A key of an object in the same namespace."""

    name: ObjectName
    """The object's name."""
    key: Key
    """The key in it."""
    optional: bool | None = None
    """Whether the pod may start without it."""


class FieldReference(Model):
    """A field of the pod."""

    field_path: Annotated[str, Field(max_length=253)]
    """The field, such as metadata.name or status.podIP."""


class ResourceFieldReference(Model):
    """A request or limit of the container."""

    resource: ResourceName
    """The resource, such as limits.cpu."""
    container_name: ObjectName | None = None
    """The container; this service's own if left out."""
    divisor: Quantity | None = None
    """The unit that the value is given in."""


class EnvSource(Model):
    """Where a variable's value comes from."""

    rules = (exactly_one("configMapKeyRef", "secretKeyRef", "fieldRef", "resourceFieldRef"),)

    config_map_key_ref: KeyReference | None = None
    """A key of a ConfigMap."""
    secret_key_ref: KeyReference | None = None
    """A key of a Secret."""
    field_ref: FieldReference | None = None
    """A field of the pod."""
    resource_field_ref: ResourceFieldReference | None = None
    """A request or limit of the container."""


class EnvVar(Model):
    """One environment variable of the running service."""

    rules = (
        Rule(
            "!(has(self.value) && has(self.valueFrom))",
            "must not have both value and valueFrom",
            lambda self: self.value is None or self.value_from is None,
        ),
    )

    name: EnvName
    """Its name. TZ, PORT and GOMEMLIMIT may be set too: your value wins."""
    value: Annotated[str, Field(max_length=16384)] | None = None
    """Its value; empty if left out."""
    value_from: EnvSource | None = None
    """A source for its value, instead of `value`."""


class OptionalReference(Model):
    """An object in the same namespace that may be allowed to be missing."""

    name: ObjectName
    """Its name."""
    optional: bool | None = None
    """Whether the pod may start without it."""


class EnvFrom(Model):
    """All keys of a ConfigMap or Secret as environment variables."""

    rules = (exactly_one("configMapRef", "secretRef"),)

    prefix: (
        Annotated[
            str,
            Text(
                r"[A-Za-z_.-][A-Za-z0-9_.-]*", 63, "the beginning of an environment variable name"
            ),
        ]
        | None
    ) = None
    """Put before every key."""
    config_map_ref: OptionalReference | None = None
    """A ConfigMap."""
    secret_ref: OptionalReference | None = None
    """A Secret."""


class Resources(Model):
    """Requests and limits of a container. What is not named here comes from the platform."""

    requests: Annotated[dict[ResourceName, Quantity], Field(max_length=16)] | None = None
    """What the scheduler sets aside, such as cpu: 100m."""
    limits: Annotated[dict[ResourceName, Quantity], Field(max_length=16)] | None = None
    """What the container may use at the most, such as memory: 256Mi."""


class HTTPHeader(Model):
    """A header of a probe's request."""

    name: Annotated[str, Text(r"[-A-Za-z0-9]+", 255, "an HTTP header name")]
    """Its name."""
    value: Annotated[str, Field(max_length=1024)]
    """Its value."""


class HTTPGet(Model):
    """A GET request that must answer 200 to 399."""

    path: Annotated[str, Text(r"/[!-~]*", 1024, "a path that starts with /")] | None = None
    """The path; / if left out."""
    port: PortOrName | None = None
    """A port's number or name; the first port if left out."""
    scheme: HTTPScheme | None = None
    """HTTP if left out."""
    http_headers: Annotated[list[HTTPHeader], listing(max_length=16)] | None = None
    """Headers of the request."""


class HTTPScheme(StrEnum):
    """How a probe speaks."""

    HTTP = "HTTP"
    HTTPS = "HTTPS"


class TCPSocket(Model):
    """A port that must accept a connection."""

    port: PortOrName | None = None
    """A port's number or name; the first port if left out."""


class GRPC(Model):
    """A gRPC health check."""

    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """A port's number; the first port if left out."""
    service: Annotated[str, Field(max_length=253)] | None = None
    """The service name of the health request."""


class Exec(Model):
    """A command in the container; scratch images have no shell."""

    command: Annotated[
        list[Annotated[str, Field(max_length=1024)]], listing(min_length=1, max_length=32)
    ]
    """Program and arguments."""


class Probe(Model):
    """A check of the container by the kubelet."""

    rules = (
        Rule(
            "(has(self.httpGet) ? 1 : 0) + (has(self.tcpSocket) ? 1 : 0) + (has(self.grpc) ? 1 : 0)"
            " + (has(self.exec) ? 1 : 0) <= 1",
            "must have at most one of httpGet, tcpSocket, grpc, exec",
            lambda self: (
                sum(x is not None for x in (self.http_get, self.tcp_socket, self.grpc, self.exec))
                <= 1
            ),
        ),
    )

    http_get: HTTPGet | None = None
    """Ask by HTTP."""
    tcp_socket: TCPSocket | None = None
    """Ask by connecting."""
    grpc: GRPC | None = None
    """Ask by gRPC."""
    exec: Exec | None = None
    """Ask by a command."""
    initial_delay_seconds: Seconds | None = None
    """Seconds before the first check."""
    period_seconds: Annotated[int, Field(ge=1, le=86400)] | None = None
    """Seconds between checks."""
    timeout_seconds: Annotated[int, Field(ge=1, le=86400)] | None = None
    """Seconds until a check has failed."""
    success_threshold: Annotated[int, Field(ge=1, le=100)] | None = None
    """Checks in a row until it counts as well again."""
    failure_threshold: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Checks in a row until it counts as failed."""
    termination_grace_period_seconds: Annotated[int, Field(ge=1, le=86400)] | None = None
    """Seconds to stop in after a failed startup or liveness check."""

    def asks(self) -> bool:
        """Whether the probe has a question; `{}` has none."""
        return any(x is not None for x in (self.http_get, self.tcp_socket, self.grpc, self.exec))


class MetricTarget(Model):
    """The value that an autoscaler steers to."""

    type: MetricTargetType
    """Which of the values below is meant."""
    value: Quantity | None = None
    """Of the metric as a whole."""
    average_value: Quantity | None = None
    """Of the metric, per pod."""
    average_utilization: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Of the pods' requests, in percent."""


class MetricTargetType(StrEnum):
    """How a target is written."""

    UTILIZATION = "Utilization"
    VALUE = "Value"
    AVERAGE_VALUE = "AverageValue"


class LabelExpression(Model):
    """One requirement on labels."""

    key: LabelKey
    """The label."""
    operator: LabelOperator
    """How its value relates to `values`."""
    values: Annotated[list[LabelValue], listing(max_length=32)] | None = None
    """The values."""


class LabelOperator(StrEnum):
    """How a label relates to values."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class LabelSelector(Model):
    """Which series of a metric count."""

    match_labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=16)] | None = None
    """Labels and their values."""
    match_expressions: Annotated[list[LabelExpression], listing(max_length=16)] | None = None
    """Further requirements."""


class MetricIdentifier(Model):
    """A metric by name."""

    name: Annotated[str, Field(max_length=253)]
    """Its name."""
    selector: LabelSelector | None = None
    """Which of its series."""


class ResourceMetric(Model):
    """CPU or memory of the pods."""

    name: ResourceName
    """The resource."""
    target: MetricTarget
    """What to steer to."""


class ContainerResourceMetric(Model):
    """CPU or memory of one container."""

    container: ObjectName
    """The container; the service's own is called app."""
    name: ResourceName
    """The resource."""
    target: MetricTarget
    """What to steer to."""


class PodsMetric(Model):
    """A metric that every pod has."""

    metric: MetricIdentifier
    """Which."""
    target: MetricTarget
    """What to steer to."""


class ObjectReference(Model):
    """An object that a metric describes."""

    api_version: Annotated[str, Field(max_length=253)] | None = None
    """Its apiVersion."""
    kind: Annotated[str, Field(max_length=63)]
    """Its kind."""
    name: ObjectName
    """Its name."""


class ObjectMetric(Model):
    """A metric of another object."""

    described_object: ObjectReference
    """The object."""
    metric: MetricIdentifier
    """Which metric."""
    target: MetricTarget
    """What to steer to."""


class ExternalMetric(Model):
    """A metric from outside the cluster."""

    metric: MetricIdentifier
    """Which."""
    target: MetricTarget
    """What to steer to."""


class MetricType(StrEnum):
    """Where a metric comes from."""

    RESOURCE = "Resource"
    CONTAINER_RESOURCE = "ContainerResource"
    PODS = "Pods"
    OBJECT = "Object"
    EXTERNAL = "External"


class Metric(Model):
    """One metric of the autoscaler, in the shape of autoscaling/v2."""

    rules = (
        Rule(
            "(self.type == 'Resource') == has(self.resource)"
            " && (self.type == 'ContainerResource') == has(self.containerResource)"
            " && (self.type == 'Pods') == has(self.pods)"
            " && (self.type == 'Object') == has(self.object)"
            " && (self.type == 'External') == has(self.external)",
            "must have the one field that its type names (Resource: resource, Pods: pods, …) and no other",
            lambda self: (
                {
                    kind
                    for kind, value in (
                        (MetricType.RESOURCE, self.resource),
                        (MetricType.CONTAINER_RESOURCE, self.container_resource),
                        (MetricType.PODS, self.pods),
                        (MetricType.OBJECT, self.object),
                        (MetricType.EXTERNAL, self.external),
                    )
                    if value is not None
                }
                == {self.type}
            ),
        ),
    )

    type: MetricType
    """Where it comes from."""
    resource: ResourceMetric | None = None
    """CPU or memory of the pods."""
    container_resource: ContainerResourceMetric | None = None
    """CPU or memory of one container."""
    pods: PodsMetric | None = None
    """A metric that every pod has."""
    object: ObjectMetric | None = None
    """A metric of another object."""
    external: ExternalMetric | None = None
    """A metric from outside the cluster."""


class ScalingPolicyType(StrEnum):
    """What a scaling policy counts."""

    PODS = "Pods"
    PERCENT = "Percent"


class ScalingPolicy(Model):
    """One bound on the speed of scaling."""

    type: ScalingPolicyType
    """What `value` counts."""
    value: Annotated[int, Field(ge=1, le=10000)]
    """Pods or percent per period."""
    period_seconds: Annotated[int, Field(ge=1, le=1800)]
    """The period, in seconds."""


class SelectPolicy(StrEnum):
    """Which of several policies counts."""

    MAX = "Max"
    MIN = "Min"
    DISABLED = "Disabled"


class ScalingRules(Model):
    """How fast to scale in one direction."""

    stabilization_window_seconds: Annotated[int, Field(ge=0, le=3600)] | None = None
    """Seconds of past advice to look back on."""
    select_policy: SelectPolicy | None = None
    """Which of the policies counts."""
    policies: Annotated[list[ScalingPolicy], listing(max_length=8)] | None = None
    """The bounds."""


class Behavior(Model):
    """How fast to scale, in the shape of autoscaling/v2."""

    scale_up: ScalingRules | None = None
    """Upwards."""
    scale_down: ScalingRules | None = None
    """Downwards."""


class ContainerPort(Model):
    """A port that the service listens on (TCP)."""

    name: PortName
    """Its name."""
    port: Annotated[int, Field(ge=1, le=65535)]
    """Where the process listens. The first one is given to it as PORT."""
    service_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The port of the Service: 80 for the first if left out, else the same as port."""
