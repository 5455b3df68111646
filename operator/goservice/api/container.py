"""The shapes that the container takes over from Kubernetes' own API, written out in full.

They carry the core names, so that people can copy from any Deployment. What could reach out of the
pod is left out: a probe has no `host`, resources have no `claims`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field

from goservice.api.fields import (
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
    listing,
    matches,
)
from goservice.api.reaches import Reaches
from goservice.api.rules import exactly_one
from goservice.quantity import amount

Seconds = Annotated[int, Field(ge=0, le=86400)]

QUALIFIED = rf"(({SUBDOMAIN})/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?"
"""A qualified name: the key of a label or annotation, with or without a prefix."""

LabelKey = Annotated[str, Text(QUALIFIED, 317, "a label key, such as app or example.com/app")]

LabelValue = Annotated[
    str,
    Text(
        r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?",
        63,
        "a label value (letters, digits, -, _ and .)",
    ),
]

DataKey = Annotated[
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


def plain(longest: int) -> Text:
    """Any text that a process can be given."""
    return Text(r"[^\x00]*", longest, "text without NUL characters")


class LocalReference(Model):
    """An object in the same namespace."""

    name: ObjectName
    """Its name."""


class KeyReference(Model):
    """A key of an object in the same namespace."""

    name: ObjectName
    """The object's name."""
    key: DataKey
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


class ContainerPort(Model):
    """A port that the service listens on (TCP)."""

    name: PortName
    """Its name."""
    port: Annotated[int, Field(ge=1, le=65535)]
    """Where the process listens. The first one is given to it as PORT."""
    service_port: Annotated[int, Field(ge=1, le=65535), Reaches.NOTHING] | None = None
    """The port of the Service: 80 for the first if left out, else the same as port."""
