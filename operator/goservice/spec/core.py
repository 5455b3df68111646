"""The shapes that the resource takes over from Kubernetes' own API, written out in full.

They carry the core names, so that people can copy from any Deployment. What could reach out of the
pod is left out: a probe has no `host`, resources have no `claims`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from goservice.spec.types import (
    SUBDOMAIN,
    EnvName,
    Model,
    NumberOrText,
    ObjectName,
    PortName,
    PortOrName,
    Quantity,
    Rule,
    Text,
    amount,
    listing,
    matches,
)

Seconds = Annotated[int, Field(ge=0, le=86400)]
QUALIFIED = rf"(({SUBDOMAIN})/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?"
LabelKey = Annotated[str, Text(QUALIFIED, 317, "a label key, such as app or example.com/app")]
LabelValue = Annotated[
    str,
    Text(
        r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?",
        63,
        "a label value (letters, digits, -, _ and .)",
    ),
]
Key = Annotated[
    str,
    Text(
        r"\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*",
        253,
        "a key of letters, digits, -, _ and ., not starting with ..",
    ),
]
ResourceName = Annotated[
    str,
    Text(
        rf"cpu|memory|ephemeral-storage|({SUBDOMAIN})/[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?",
        253,
        "cpu, memory, ephemeral-storage or an extended resource such as example.com/gpu",
    ),
]
ContainerName = Annotated[
    str,
    Text(
        r"[a-z0-9]([-a-z0-9]*[a-z0-9])?",
        63,
        "a container name (lower case letters, digits and -); the service's own is app",
    ),
]
MetricName = Annotated[
    str,
    Text(
        r"[A-Za-z0-9_:|-][A-Za-z0-9_.:|-]*",
        253,
        "a metric name (letters, digits, _, ., :, | and -)",
    ),
]


def plain(longest: int) -> Text:
    """Any text that a process can be given."""
    return Text(r"[^\x00]*", longest, "text without NUL characters")


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

    field_path: Annotated[
        str,
        Text(
            r"metadata\.(name|namespace|uid)|spec\.(nodeName|serviceAccountName)"
            r"|status\.(hostIPs?|podIPs?)"
            rf"|metadata\.(labels|annotations)\['{QUALIFIED}'\]",
            400,
            "metadata.name, metadata.namespace, metadata.uid, metadata.labels['KEY'],"
            " metadata.annotations['KEY'], spec.nodeName, spec.serviceAccountName, status.hostIP,"
            " status.hostIPs, status.podIP or status.podIPs",
        ),
    ]
    """The field, such as metadata.name or status.podIP."""


class ResourceFieldReference(Model):
    """A request or limit of the container."""

    rules = (
        Rule(
            "!has(self.divisor) || (self.resource.endsWith('.cpu')"
            " ? string(self.divisor) in ['1', '1m'] : string(self.divisor) != '1m')",
            "must be 1 or 1m for cpu, and not 1m for anything else",
            lambda self: (
                self.divisor is None
                or (
                    self.divisor in ("1", "1m")
                    if self.resource.endswith(".cpu")
                    else self.divisor != "1m"
                )
            ),
            path="divisor",
        ),
    )

    resource: Annotated[
        str,
        Text(
            r"(limits|requests)\.(cpu|memory|ephemeral-storage)",
            32,
            "limits or requests, a dot, and cpu, memory or ephemeral-storage",
        ),
    ]
    """The resource, such as limits.cpu."""
    container_name: ContainerName | None = None
    """The container; this service's own if left out."""
    divisor: (
        Annotated[
            str,
            NumberOrText(
                1, 1, r"1(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?", 32, "1 and a unit, such as 1Mi or 1m"
            ),
            BeforeValidator(str),
        ]
        | None
    ) = None
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
    value: Annotated[str, plain(16384)] | None = None
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


WHOLE = r"[0-9]+([kMGTPE]|[KMGTPE]i)?"
"""A quantity that counts things."""


def _counts_devices(part: str) -> Rule:
    """The rule that extended resources come in whole numbers."""

    def holds(self: Resources) -> bool:
        amounts: dict[str, str] = getattr(self, part) or {}
        return all(re.fullmatch(WHOLE, v) for k, v in amounts.items() if "/" in k)

    return Rule(
        f"!has(self.{part}) || self.{part}.all(key, !key.contains('/')"
        f" || string(self.{part}[key]).{matches(WHOLE)})",
        "must be whole numbers for extended resources such as example.com/gpu",
        holds,
        path=part,
    )


class Resources(Model):
    """Requests and limits of a container. What is not named here comes from the platform."""

    rules = (
        Rule(
            "!has(self.requests) || !has(self.limits) || self.requests.all(key,"
            " !(key in self.limits) || quantity(string(self.requests[key]))"
            ".compareTo(quantity(string(self.limits[key]))) <= 0)",
            "must not be greater than the limits",
            lambda self: all(
                amount(value) <= amount((self.limits or {}).get(key, value))
                for key, value in (self.requests or {}).items()
            ),
            path="requests",
        ),
        Rule(
            "!has(self.requests) || self.requests.all(key, !key.contains('/') || (has(self.limits)"
            " && key in self.limits && string(self.limits[key]) == string(self.requests[key])))",
            "must have an equal limit for an extended resource such as example.com/gpu",
            lambda self: all(
                (self.limits or {}).get(key) == value
                for key, value in (self.requests or {}).items()
                if "/" in key
            ),
            path="requests",
        ),
        _counts_devices("requests"),
        _counts_devices("limits"),
    )

    requests: Annotated[dict[ResourceName, Quantity], Field(max_length=16)] | None = None
    """What the scheduler sets aside, such as cpu: 100m."""
    limits: Annotated[dict[ResourceName, Quantity], Field(max_length=16)] | None = None
    """What the container may use at the most, such as memory: 256Mi."""


class HTTPHeader(Model):
    """A header of a probe's request."""

    name: Annotated[str, Text(r"[-A-Za-z0-9]+", 255, "an HTTP header name")]
    """Its name."""
    value: Annotated[
        str, Text(r"([!-~]([ -~]*[!-~])?)?", 1024, "a header value of printable ASCII characters")
    ]
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
    service: Annotated[str, plain(253)] | None = None
    """The service name of the health request."""


class Exec(Model):
    """A command in the container; scratch images have no shell."""

    command: Annotated[list[Annotated[str, plain(1024)]], listing(min_length=1, max_length=32)]
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

    def asks(self) -> bool:
        """Whether the probe has a question; `{}` has none."""
        return any(x is not None for x in (self.http_get, self.tcp_socket, self.grpc, self.exec))


class StoppingProbe(Probe):
    """A check that stops the container when it fails."""

    termination_grace_period_seconds: Annotated[int, Field(ge=1, le=86400)] | None = None
    """Seconds to stop in after a failed startup or liveness check."""


def positive(field: str) -> Rule:
    """The rule that a quantity, where it is set, is more than nothing."""
    attribute = _snake(field)

    def holds(self: Any) -> bool:
        value = getattr(self, attribute)
        return value is None or amount(value) > 0

    cel = f"!has(self.{field}) || quantity(string(self.{field})).isGreaterThan(quantity('0'))"
    return Rule(cel, "must be greater than 0", holds, path=field)


def _as_its_type(**fields: str) -> Rule:
    """The rule that a target has the field of its type, and no other: `Value="value"`."""
    each = [f"(self.type == '{kind}') == has(self.{field})" for kind, field in fields.items()]
    named = ", ".join(f"{kind}: {field}" for kind, field in fields.items())

    def holds(self: Any) -> bool:
        return all(
            (self.type == kind) == (getattr(self, _snake(field)) is not None)
            for kind, field in fields.items()
        )

    message = f"must have the one value that its type names ({named}) and no other"
    return Rule(" && ".join(each), message, holds)


class ShareTargetType(StrEnum):
    """How a target of CPU or memory is written."""

    UTILIZATION = "Utilization"
    AVERAGE_VALUE = "AverageValue"


class ShareTarget(Model):
    """The CPU or memory that an autoscaler steers to."""

    rules = (
        _as_its_type(Utilization="averageUtilization", AverageValue="averageValue"),
        positive("averageValue"),
    )

    type: ShareTargetType
    """Which of the values below is meant."""
    average_value: Quantity | None = None
    """Of the metric, per pod."""
    average_utilization: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Of the pods' requests, in percent."""


class PodsTargetType(StrEnum):
    """How a target per pod is written."""

    AVERAGE_VALUE = "AverageValue"


class PodsTarget(Model):
    """The value per pod that an autoscaler steers to."""

    rules = (positive("averageValue"),)

    type: PodsTargetType
    """Which of the values below is meant."""
    average_value: Quantity
    """Of the metric, per pod."""


class ValueTargetType(StrEnum):
    """How a target of one number is written."""

    VALUE = "Value"
    AVERAGE_VALUE = "AverageValue"


class ValueTarget(Model):
    """The value that an autoscaler steers to."""

    rules = (
        _as_its_type(Value="value", AverageValue="averageValue"),
        positive("value"),
        positive("averageValue"),
    )

    type: ValueTargetType
    """Which of the values below is meant."""
    value: Quantity | None = None
    """Of the metric as a whole."""
    average_value: Quantity | None = None
    """Of the metric, per pod."""


class LabelExpression(Model):
    """One requirement on labels."""

    rules = (
        Rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            "must have values for In and NotIn, and none for Exists and DoesNotExist",
            lambda self: (
                (self.operator in (LabelOperator.IN, LabelOperator.NOT_IN)) == bool(self.values)
            ),
            path="values",
        ),
    )

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

    name: MetricName
    """Its name."""
    selector: LabelSelector | None = None
    """Which of its series."""


class ResourceMetric(Model):
    """CPU or memory of the pods."""

    name: ResourceName
    """The resource."""
    target: ShareTarget
    """What to steer to."""


class ContainerResourceMetric(Model):
    """CPU or memory of one container."""

    container: ContainerName
    """The container; the service's own is called app."""
    name: ResourceName
    """The resource."""
    target: ShareTarget
    """What to steer to."""


class PodsMetric(Model):
    """A metric that every pod has."""

    metric: MetricIdentifier
    """Which."""
    target: PodsTarget
    """What to steer to."""


class ObjectReference(Model):
    """An object that a metric describes."""

    api_version: (
        Annotated[
            str, Text(rf"(({SUBDOMAIN})/)?v[a-z0-9]+", 253, "an apiVersion such as v1 or apps/v1")
        ]
        | None
    ) = None
    """Its apiVersion."""
    kind: Annotated[str, Text(r"[A-Za-z][A-Za-z0-9]*", 63, "a kind such as Ingress")]
    """Its kind."""
    name: ObjectName
    """Its name."""


class ObjectMetric(Model):
    """A metric of another object."""

    described_object: ObjectReference
    """The object."""
    metric: MetricIdentifier
    """Which metric."""
    target: ValueTarget
    """What to steer to."""


class ExternalMetric(Model):
    """A metric from outside the cluster."""

    metric: MetricIdentifier
    """Which."""
    target: ValueTarget
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
    policies: Annotated[list[ScalingPolicy], listing(min_length=1, max_length=8)] | None = None
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
