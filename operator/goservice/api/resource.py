"""The resource as frozen types: the single source of the API.

From here come the CRD, the parser, the words of `kubectl explain` and the command line's checks.
Each field says what a change of it makes anew (`Reaches`), itself or by the group it is in.
It holds no decision and reads nothing but its argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from goservice.api.autoscaling import Behavior, Metric
from goservice.api.build import Build
from goservice.api.container import (
    ContainerPort,
    EnvFrom,
    EnvVar,
    LocalReference,
    Probe,
    Resources,
    StoppingProbe,
    plain,
)
from goservice.api.fields import (
    Digest,
    GitURL,
    ImageRepository,
    IntOrPercent,
    Model,
    RepositoryPath,
    Revision,
    Rule,
    Tag,
    TimeZone,
    UserName,
    listing,
    unique,
)
from goservice.api.reaches import Reaches

GROUP = "goservice.dev"
"""The API group, and the prefix of every annotation and label of the operator's own."""

VERSION = "v1alpha1"
"""The served version."""

API_VERSION = f"{GROUP}/{VERSION}"
"""Group and version, as a resource names them."""

KIND = "GoService"
"""The kind."""

PLURAL = "goservices"
"""The kind's name in paths and in RBAC."""

NAME_PATTERN = r"[a-z]([-a-z0-9]*[a-z0-9])?"
"""A resource's name: a Service is called by it, whose name begins with a letter (RFC 1035)."""

NAME_LONGEST = 40
"""Characters of a resource's name: what the operator appends must stay below Kubernetes' 63."""

NAMESPACE_PATTERN = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
"""A namespace's name (RFC 1123 label), of at most 63 characters."""


class Git(Model):
    """A public git repository."""

    url: Annotated[GitURL, Reaches.IMAGE]
    """Its http(s) URL, such as https://git.example.com/shop/checkout.git. http only where the platform allows it. Redirects are not followed."""
    revision: Annotated[Revision | None, Reaches.NOTHING] = None
    """A branch, a tag or a full commit of 40 hex digits. The remote's default branch if left out."""
    directory: Annotated[RepositoryPath, Reaches.IMAGE] = "."
    """The folder of the Go module (its go.mod) in the repository."""


class Source(Model):
    """Where the source code is."""

    git: Git
    """The git repository."""
    poll_interval_seconds: Annotated[int, Field(ge=0, le=86400), Reaches.NOTHING] = 300
    """Seconds between looks for a new commit. 0: only when asked to. A commit is never polled."""


class Image(Model):
    """Where the image goes and what serves."""

    repository: Annotated[ImageRepository, Reaches.IMAGE]
    """The image repository, without tag: registry.example.com/shop/checkout."""
    digest: Annotated[Digest | None, Reaches.POD] = None
    """Serve exactly this image of the repository (rollback, promotion, a pre-built image). Nothing is built while it is set."""
    tag: Annotated[Tag, Reaches.IMAGE] = "$(COMMIT)-$(INPUTS)"
    """The tag to push. The service is always deployed by digest. $(COMMIT), $(REVISION), $(INPUTS), $(NAME) and $(NAMESPACE) are filled in."""
    push_secret_ref: Annotated[LocalReference | None, Reaches.NOTHING] = None
    """A Secret of type kubernetes.io/dockerconfigjson to push with."""
    pull_secret_refs: Annotated[
        list[LocalReference],
        listing(("name",), max_length=8),
        AfterValidator(unique("name")),
        Reaches.POD,
    ] = []
    """Secrets of type kubernetes.io/dockerconfigjson that the service's pods pull with."""


class User(Model):
    """The user that the service runs as."""

    rules = (
        Rule(
            "!has(self.name) || (self.name != 'root' && self.name != 'nobody')",
            "must not be root or nobody",
            lambda self: self.name not in ("root", "nobody"),
            path="name",
        ),
    )

    uid: Annotated[int, Field(ge=1, le=2147483647)] = 10001
    """The numeric user (and group) id, in the image and on the pod."""
    name: UserName = "app-runner"
    """Its name in the image's /etc/passwd."""


class Go(Model):
    """The Go runtime."""

    memory_limit_percent: Annotated[int, Field(ge=1, le=100)] = 90
    """GOMEMLIMIT as a share of the memory limit, in percent."""


def _passes_once(name: str) -> Rule:
    """The rule that one check in a row is enough, as Kubernetes has it but for readiness."""

    def holds(self: Probes) -> bool:
        probe = getattr(self, name)
        return probe is None or probe.success_threshold in (None, 1)

    field = f"{name}.successThreshold"
    return Rule(
        f"!has(self.{name}) || !has(self.{field}) || self.{field} == 1",
        "must be 1 for startup and liveness",
        holds,
        path=field,
    )


class Probes(Model):
    """Checks of the running container by the kubelet."""

    rules = (_passes_once("startup"), _passes_once("liveness"))

    startup: StoppingProbe | None = None
    """Guards the other two until the service has started. None if left out."""
    readiness: Probe | None = None
    """Decides whether the pod gets requests. A TCP check of the first port every 2 s if left out; {} switches it off."""
    liveness: StoppingProbe | None = None
    """Restarts the container when it fails. None if left out."""


class Autoscaling(Model):
    """A HorizontalPodAutoscaler (autoscaling/v2)."""

    rules = (
        Rule(
            "!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",
            "must not be greater than maxReplicas",
            lambda self: self.min_replicas <= self.max_replicas,
            path="minReplicas",
        ),
    )

    min_replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    """Pods at the least."""
    max_replicas: Annotated[int, Field(ge=1, le=1000)]
    """Pods at the most."""
    target_cpu_utilization_percentage: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, alias="targetCPUUtilizationPercentage"
    )
    """CPU use to steer to, in percent of the request. 80 if no metric is named."""
    metrics: Annotated[list[Metric], listing(max_length=10)] = []
    """Further metrics, in the shape of autoscaling/v2."""
    behavior: Behavior | None = None
    """How fast to scale, in the shape of autoscaling/v2."""


class Rollout(Model):
    """How a new version takes over."""

    rules = (
        Rule(
            "!has(self.maxSurge) || !has(self.maxUnavailable)"
            " || !((type(self.maxSurge) == int ? self.maxSurge == 0 : self.maxSurge == '0%')"
            " && (type(self.maxUnavailable) == int ? self.maxUnavailable == 0 : self.maxUnavailable == '0%'))",
            "must not be 0 when maxUnavailable is 0",
            lambda self: (
                not (
                    str(self.max_surge) in ("0", "0%") and str(self.max_unavailable) in ("0", "0%")
                )
            ),
            path="maxSurge",
        ),
        Rule(
            "!has(self.preStopSeconds) || !has(self.terminationGracePeriodSeconds)"
            " || self.preStopSeconds < self.terminationGracePeriodSeconds",
            "must be less than terminationGracePeriodSeconds",
            lambda self: self.pre_stop_seconds < self.termination_grace_period_seconds,
            path="preStopSeconds",
        ),
    )

    max_surge: Annotated[IntOrPercent, Reaches.NOTHING] = "25%"
    """Pods above the wanted number while rolling out: a number or a percentage."""
    max_unavailable: Annotated[IntOrPercent, Reaches.NOTHING] = 0
    """Pods below the wanted number while rolling out: a number or a percentage."""
    progress_deadline_seconds: Annotated[int, Field(ge=30, le=86400), Reaches.NOTHING] = 600
    """Seconds without progress after which a rollout counts as stuck."""
    termination_grace_period_seconds: Annotated[int, Field(ge=1, le=86400), Reaches.POD] = 30
    """Seconds that a pod has to stop in."""
    pre_stop_seconds: Annotated[int, Field(ge=0, le=3600), Reaches.POD] = 5
    """Seconds that a stopping pod still serves, until load balancers have noticed. 0: none."""


class Disruption(Model):
    """How many pods a node drain may take at once."""

    max_unavailable: IntOrPercent = 1
    """Pods that may be away: a number or a percentage."""


_SERVICE_PORT = (
    "(has({0}.servicePort) ? {0}.servicePort : ({0}.name == self[0].name ? 80 : {0}.port))"
)
"""CEL: the Service's port for a port of the list, 80 for the first where it names none."""

_SERVICE_PORT_TWICE = "must not give the Service a port twice (80 for the first, else port)"
"""The same message from the API server and from Python."""


def _service_ports(ports: list[ContainerPort]) -> list[ContainerPort]:
    """A check that no two ports of the Service are the same."""
    numbers = [p.service_port or (80 if i == 0 else p.port) for i, p in enumerate(ports)]
    if len(set(numbers)) < len(numbers):
        raise PydanticCustomError("unique", _SERVICE_PORT_TWICE)
    return ports


def _has_a_port(name: str) -> Rule:
    """The rule that a probe which names no port finds one."""
    ways = ("httpGet", "tcpSocket", "grpc")
    named = " && ".join(
        f"(!has(self.probes.{name}.{way}) || has(self.probes.{name}.{way}.port))" for way in ways
    )

    def holds(self: Spec) -> bool:
        probe = getattr(self.probes, name)
        asked = [] if probe is None else [probe.http_get, probe.tcp_socket, probe.grpc]
        return bool(self.ports) or all(way is None or way.port is not None for way in asked)

    return Rule(
        f"!has(self.probes) || !has(self.probes.{name}) || !has(self.ports)"
        f" || size(self.ports) > 0 || ({named})",
        "must name a port by number: the service has none in spec.ports",
        holds,
        path=f"probes.{name}",
    )


def _knows_the_port(name: str, way: str) -> Rule:
    """The rule that a probe names a port that there is."""
    port = f"self.probes.{name}.{way}.port"

    def holds(self: Spec) -> bool:
        probe = getattr(self.probes, name)
        asked = probe and (probe.http_get if way == "httpGet" else probe.tcp_socket)
        named = asked.port if asked else None
        return not isinstance(named, str) or named in [port.name for port in self.ports]

    return Rule(
        f"!has(self.probes) || !has(self.probes.{name}) || !has(self.probes.{name}.{way})"
        f" || !has({port}) || type({port}) == int || (has(self.ports)"
        f" && self.ports.exists(p, p.name == {port}))",
        "must be the name of a port in spec.ports, or a number",
        holds,
        path=f"probes.{name}.{way}.port",
    )


LONGEST_ENV = 262_144
"""Characters of all environment variables together: each pod template of each version holds them."""
LONGEST_ARGS = 65_536
"""Characters of all arguments together."""


class Spec(Model):
    """What is wanted."""

    rules = (
        *(_has_a_port(name) for name in ("startup", "readiness", "liveness")),
        *(
            _knows_the_port(name, way)
            for name in ("startup", "readiness", "liveness")
            for way in ("httpGet", "tcpSocket")
        ),
        Rule(
            "has(self.source) || has(self.image.digest)",
            "is required unless image.digest is set",
            lambda self: self.source is not None or self.image.digest is not None,
            path="source",
        ),
        Rule(
            "!has(self.env) || self.env.map(e, size(e.name) + (has(e.value) ? size(e.value) : 0)).sum()"
            f" <= {LONGEST_ENV}",
            f"must be at most {LONGEST_ENV} characters in all, names and values together;"
            " put more into a ConfigMap and name it in envFrom",
            lambda self: sum(len(e.name) + len(e.value or "") for e in self.env) <= LONGEST_ENV,
            path="env",
        ),
        Rule(
            f"!has(self.args) || self.args.map(a, size(a)).sum() <= {LONGEST_ARGS}",
            f"must be at most {LONGEST_ARGS} characters in all; put more into a file or into env",
            lambda self: sum(map(len, self.args)) <= LONGEST_ARGS,
            path="args",
        ),
    )

    source: Source | None = None
    """Where the source code is. Required unless image.digest is set."""
    build: Build = Build()
    """How the image is built."""
    image: Image
    """Where the image goes and what serves."""
    user: Annotated[User, Reaches.IMAGE] = User()
    """The user that the service runs as."""
    time_zone: Annotated[TimeZone, Reaches.IMAGE] = "UTC"
    """The service's time zone, a name of the IANA database such as Europe/Paris."""
    replicas: Annotated[int, Field(ge=0, le=1000), Reaches.NOTHING] = 1
    """Pods to run. Ignored while autoscaling is set."""
    ports: Annotated[
        list[ContainerPort],
        listing(("name",), max_length=10),
        AfterValidator(unique("name")),
        AfterValidator(unique("port")),
        AfterValidator(_service_ports),
        Reaches.POD,
    ] = Field(
        default=[ContainerPort(name="http", port=8080)],
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "self.all(p, self.exists_one(q, q.port == p.port))",
                    "message": "must not name a port number twice",
                },
                {
                    "rule": "self.all(p, self.exists_one(q, "
                    f"{_SERVICE_PORT.format('q')} == {_SERVICE_PORT.format('p')}))",
                    "message": _SERVICE_PORT_TWICE,
                },
            ]
        },
    )
    """Ports that the service listens on. The first is given to it as PORT. []: a worker without a Service."""
    args: Annotated[list[Annotated[str, plain(4096)]], listing(max_length=64), Reaches.POD] = []
    """Arguments of the program."""
    env: Annotated[
        list[EnvVar],
        listing(("name",), max_length=128),
        AfterValidator(unique("name")),
        Reaches.POD,
    ] = []
    """Environment variables."""
    env_from: Annotated[list[EnvFrom], listing(max_length=16), Reaches.POD] = []
    """ConfigMaps and Secrets whose keys become environment variables."""
    resources: Annotated[Resources | None, Reaches.POD] = None
    """Requests and limits. What is not named comes from the platform."""
    go: Annotated[Go, Reaches.POD] = Go()
    """The Go runtime."""
    probes: Annotated[Probes, Reaches.POD] = Probes()
    """Checks by the kubelet."""
    autoscaling: Annotated[Autoscaling | None, Reaches.NOTHING] = None
    """Scale with the load. Needs a CPU request."""
    rollout: Rollout = Rollout()
    """How a new version takes over."""
    disruption: Annotated[Disruption, Reaches.NOTHING] = Disruption()
    """How many pods a node drain may take at once."""
    suspend: Annotated[bool, Reaches.NOTHING] = False
    """While true nothing is built or changed; what runs keeps running."""


@dataclass(frozen=True)
class GoService:
    """One resource, parsed: identity, requests and spec."""

    namespace: str
    """metadata.namespace."""
    name: str
    """metadata.name."""
    uid: str
    """metadata.uid; empty for a resource out of a file."""
    generation: int
    """metadata.generation: the API server counts it up with each change of the spec."""
    spec: Spec
    """The spec, with its defaults filled in."""
    rebuild_requested_at: str = ""
    """The value of the rebuild annotation; compared, never parsed."""
    restart_requested_at: str = ""
    """The value of the restart annotation; compared, never parsed."""

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name


REBUILD_ANNOTATION = f"{GROUP}/rebuild-requested-at"
"""The annotation whose every new value asks for a build of the newest commit."""

RESTART_ANNOTATION = f"{GROUP}/restart-requested-at"
"""The annotation whose every new value asks for new pods of the same image."""
