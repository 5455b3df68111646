"""The resource as frozen types: the single source of the API.

From here come the CRD, the parser, the words of `kubectl explain` and the command line's checks.
It holds no decision and reads nothing but its argument.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from goservice.errors import InvalidSpec, Problem
from goservice.spec.core import (
    Behavior,
    ContainerPort,
    EnvFrom,
    EnvVar,
    LocalReference,
    Metric,
    Probe,
    Resources,
    StoppingProbe,
    exactly_one,
    plain,
    positive,
)
from goservice.spec.types import (
    AbsolutePath,
    Binary,
    BuildTag,
    Digest,
    GitURL,
    ImageReference,
    ImageRepository,
    IntOrPercent,
    MirrorURL,
    Model,
    ModuleProxy,
    ObjectName,
    Package,
    PackageName,
    Quantity,
    RepositoryPath,
    Revision,
    Rule,
    Tag,
    TimeZone,
    UserName,
    VariableName,
    VariableValue,
    distinct,
    listing,
    shown,
    unique,
)

GROUP = "goservice.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "GoService"
NAME_PATTERN = r"[a-z]([-a-z0-9]*[a-z0-9])?"
NAME_LONGEST = 40
NAMESPACE_PATTERN = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"


class Git(Model):
    """A public git repository."""

    url: GitURL
    """Its http(s) URL, such as https://git.example.com/shop/checkout.git. http only where the platform allows it. Redirects are not followed."""
    revision: Revision | None = None
    """A branch, a tag or a full commit of 40 hex digits. The remote's default branch if left out."""
    directory: RepositoryPath = "."
    """The folder of the Go module (its go.mod) in the repository."""


class Source(Model):
    """Where the source code is."""

    git: Git
    """The git repository."""
    poll_interval_seconds: Annotated[int, Field(ge=0, le=86400)] = 300
    """Seconds between looks for a new commit. 0: only when asked to. A commit is never polled."""


class Base(StrEnum):
    """What the image stands on."""

    SCRATCH = "Scratch"
    BUSYBOX = "Busybox"
    ALPINE = "Alpine"
    DISTROLESS = "Distroless"
    CUSTOM = "Custom"


class CopiedFile(Model):
    """A file or folder of the repository that goes into the image."""

    rules = (
        Rule(
            "!(self.to == '/etc' || self.to.startsWith('/etc/') || self.to == '/proc' || self.to.startsWith('/proc/'))",
            "must not be below /etc or /proc",
            lambda self: not re.fullmatch(r"/(etc|proc)(/.*)?", self.to),
            path="to",
        ),
    )

    source: RepositoryPath = Field(alias="from")
    """The file or folder, relative to the repository's root. A folder's contents go into `to`."""
    to: AbsolutePath
    """Where it goes in the image: an absolute path, not below /etc or /proc."""


class Variable(Model):
    """A Go string variable set at link time (-X)."""

    name: VariableName
    """Package path and variable, such as main.version."""
    value: VariableValue
    """Its value. $(COMMIT), $(REVISION), $(INPUTS), $(NAME) and $(NAMESPACE) are filled in."""


class Download(StrEnum):
    """When the modules are downloaded."""

    AFTER_SOURCE = "AfterSource"
    BEFORE_SOURCE = "BeforeSource"


class Modules(Model):
    """How Go modules are downloaded."""

    proxy: ModuleProxy | None = None
    """A GOPROXY list, such as https://proxy.example.com,direct. The platform's if left out."""
    download: Download = Download.AFTER_SOURCE
    """AfterSource copies the repository first (works for every layout); BeforeSource downloads from go.mod and go.sum in a layer of its own."""


class Toolchain(StrEnum):
    """Where Go comes from in a build."""

    IMAGE = "Image"
    MOUNTED = "Mounted"


class BuildCache(Model):
    """A volume that keeps Go's caches from build to build: one that is there, or one that is made."""

    rules = (
        exactly_one("claimName", "size"),
        positive("size"),
        Rule(
            "!has(self.storageClassName) || has(self.size)",
            "needs size: a claim that is there has its class",
            lambda self: self.storage_class_name is None or self.size is not None,
            path="storageClassName",
        ),
    )

    claim_name: ObjectName | None = None
    """A PersistentVolumeClaim of the namespace. Services may share it: each has folders of its own."""
    size: Quantity | None = None
    """The size of a claim (NAME-build-cache, ReadWriteOnce) that is made for this service and goes with it, such as 5Gi. It can grow where the storage class lets it; one that is no longer asked for stays until you delete it."""
    storage_class_name: ObjectName | None = None
    """The made claim's storage class. The cluster's default if left out."""


class History(Model):
    """How many finished builds are kept."""

    succeeded: Annotated[int, Field(ge=1, le=20)] = 3
    """Successful builds (Job and ConfigMap) to keep."""
    failed: Annotated[int, Field(ge=1, le=20)] = 3
    """Failed builds to keep."""


class Build(Model):
    """How the image is built."""

    rules = (
        Rule(
            "!has(self.base) || self.base != 'Custom' || has(self.baseImage)",
            "is required when base is Custom",
            lambda self: self.base is not Base.CUSTOM or self.base_image is not None,
            path="baseImage",
        ),
        Rule(
            "!has(self.packageMirror) || (has(self.packages) && size(self.packages) > 0)",
            "needs packages to install",
            lambda self: self.package_mirror is None or bool(self.packages),
            path="packageMirror",
        ),
        Rule(
            "!has(self.baseImage) || !has(self.base) || self.base != 'Scratch'",
            "must not be set when base is Scratch; set base to Alpine, Busybox, Distroless or Custom",
            lambda self: self.base_image is None or self.base is not Base.SCRATCH,
            path="baseImage",
        ),
        Rule(
            "!has(self.toolchain) || self.toolchain != 'Mounted' || !has(self.packages) || size(self.packages) == 0",
            "must not be Mounted where packages are installed; set it to Image, or leave it out",
            lambda self: self.toolchain is not Toolchain.MOUNTED or not self.packages,
            path="toolchain",
        ),
    )

    package: Package = "."
    """The main package, relative to the module's folder: . or ./cmd/checkout."""
    binary: Binary | None = None
    """The name of the program in the image. metadata.name if left out."""
    builder_image: ImageReference | None = None
    """The image that Go comes from, such as golang:1.27-alpine3.24. The platform's if left out."""
    base: Base = Base.SCRATCH
    """What the image stands on: Scratch (nothing but the program), Busybox, Alpine, Distroless, or Custom."""
    base_image: ImageReference | None = None
    """Pins or replaces the base's image, such as alpine:3.24. Required for Custom."""
    packages: Annotated[
        list[PackageName],
        Field(json_schema_extra={"x-kubernetes-list-type": "set"}, max_length=32),
        AfterValidator(distinct),
    ] = []
    """Packages of the builder's distribution (Alpine or Debian) that are installed before the build. tzdata also puts the zone's file into the image."""
    package_mirror: MirrorURL | None = None
    """A mirror to install packages from: an http(s) URL that takes the place of the distribution's. Needs packages."""
    files: Annotated[
        list[CopiedFile], listing(("to",), max_length=32), AfterValidator(unique("to"))
    ] = []
    """Files and folders of the repository that go into the image, such as a config folder."""
    tags: Annotated[
        list[BuildTag],
        Field(json_schema_extra={"x-kubernetes-list-type": "set"}, max_length=32),
        AfterValidator(distinct),
    ] = []
    """Go build tags."""
    variables: Annotated[
        list[Variable], listing(("name",), max_length=32), AfterValidator(unique("name"))
    ] = []
    """Go string variables set at link time (-X), such as main.version."""
    modules: Modules = Modules()
    """How Go modules are downloaded."""
    toolchain: Toolchain | None = None
    """Where Go comes from. Mounted: from builderImage by a volume, beside a small builder stage, which is faster; Image: the builder stage stands on builderImage. If left out, Mounted where the platform says so, no packages are installed and builderImage is golang:1.21 or newer. The image that comes out is the same."""
    cache: BuildCache | None = None
    """Keeps Go's caches from build to build, and compiles the standard library once for all. Nothing is kept if left out."""
    resources: Resources | None = None
    """Requests and limits of the build. The platform's if left out."""
    timeout_seconds: Annotated[int, Field(ge=60, le=86400)] = 1800
    """Seconds after which a build is stopped."""
    history: History = History()
    """How many finished builds are kept."""


class Image(Model):
    """Where the image goes and what serves."""

    repository: ImageRepository
    """The image repository, without tag: registry.example.com/shop/checkout."""
    digest: Digest | None = None
    """Serve exactly this image of the repository (rollback, promotion, a pre-built image). Nothing is built while it is set."""
    tag: Tag = "$(COMMIT)-$(INPUTS)"
    """The tag to push. The service is always deployed by digest. $(COMMIT), $(REVISION), $(INPUTS), $(NAME) and $(NAMESPACE) are filled in."""
    push_secret_ref: LocalReference | None = None
    """A Secret of type kubernetes.io/dockerconfigjson to push with."""
    pull_secret_refs: Annotated[
        list[LocalReference], listing(("name",), max_length=8), AfterValidator(unique("name"))
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

    max_surge: IntOrPercent = "25%"
    """Pods above the wanted number while rolling out: a number or a percentage."""
    max_unavailable: IntOrPercent = 0
    """Pods below the wanted number while rolling out: a number or a percentage."""
    progress_deadline_seconds: Annotated[int, Field(ge=30, le=86400)] = 600
    """Seconds without progress after which a rollout counts as stuck."""
    termination_grace_period_seconds: Annotated[int, Field(ge=1, le=86400)] = 30
    """Seconds that a pod has to stop in."""
    pre_stop_seconds: Annotated[int, Field(ge=0, le=3600)] = 5
    """Seconds that a stopping pod still serves, until load balancers have noticed. 0: none."""


class Disruption(Model):
    """How many pods a node drain may take at once."""

    max_unavailable: IntOrPercent = 1
    """Pods that may be away: a number or a percentage."""


_SERVICE_PORT = (
    "(has({0}.servicePort) ? {0}.servicePort : ({0}.name == self[0].name ? 80 : {0}.port))"
)
_SERVICE_PORT_TWICE = "must not give the Service a port twice (80 for the first, else port)"


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
    )

    source: Source | None = None
    """Where the source code is. Required unless image.digest is set."""
    build: Build = Build()
    """How the image is built."""
    image: Image
    """Where the image goes and what serves."""
    user: User = User()
    """The user that the service runs as."""
    time_zone: TimeZone = "UTC"
    """The service's time zone, a name of the IANA database such as Europe/Paris."""
    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Pods to run. Ignored while autoscaling is set."""
    ports: Annotated[
        list[ContainerPort],
        listing(("name",), max_length=10),
        AfterValidator(unique("name")),
        AfterValidator(unique("port")),
        AfterValidator(_service_ports),
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
    args: Annotated[list[Annotated[str, plain(4096)]], listing(max_length=64)] = []
    """Arguments of the program."""
    env: Annotated[
        list[EnvVar], listing(("name",), max_length=128), AfterValidator(unique("name"))
    ] = []
    """Environment variables."""
    env_from: Annotated[list[EnvFrom], listing(max_length=16)] = []
    """ConfigMaps and Secrets whose keys become environment variables."""
    resources: Resources | None = None
    """Requests and limits. What is not named comes from the platform."""
    go: Go = Go()
    """The Go runtime."""
    probes: Probes = Probes()
    """Checks by the kubelet."""
    autoscaling: Autoscaling | None = None
    """Scale with the load. Needs a CPU request."""
    rollout: Rollout = Rollout()
    """How a new version takes over."""
    disruption: Disruption = Disruption()
    """How many pods a node drain may take at once."""
    suspend: bool = False
    """While true nothing is built or changed; what runs keeps running."""


@dataclass(frozen=True)
class GoService:
    """One resource, parsed: identity, requests and spec."""

    namespace: str
    name: str
    uid: str
    generation: int
    spec: Spec
    rebuild_requested_at: str = ""
    """The value of the rebuild annotation; compared, never parsed."""
    restart_requested_at: str = ""
    """The value of the restart annotation; compared, never parsed."""

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name


REBUILD_ANNOTATION = f"{GROUP}/rebuild-requested-at"
RESTART_ANNOTATION = f"{GROUP}/restart-requested-at"


def parse(body: Mapping[str, Any]) -> GoService:
    """The resource in a body as the API server stores it.

    Raises:
        InvalidSpec: with one problem for each fault that was found.
    """
    metadata = body.get("metadata") or {}
    name = str(metadata.get("name") or "")
    namespace = str(metadata.get("namespace") or "default")
    problems = []
    if not re.fullmatch(NAMESPACE_PATTERN, namespace):
        problems.append(
            Problem(
                "metadata.namespace",
                "must be at most 63 lower case letters, digits and -, "
                f"starting and ending with a letter or digit, not {shown(namespace)}",
            )
        )
    if not re.fullmatch(NAME_PATTERN, name) or len(name) > NAME_LONGEST:
        problems.append(
            Problem(
                "metadata.name",
                f"must be at most {NAME_LONGEST} lower case letters, digits and -, starting with a letter and not ending with -, not {shown(name)}",
            )
        )
    try:
        written = json.dumps(_without_nulls(body.get("spec", {})), default=str)
        spec = Spec.model_validate_json(written, strict=True)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            problems += _problems(detail)
        raise InvalidSpec(problems) from None
    if any(file.to == f"/app/{spec.build.binary or name}" for file in spec.build.files):
        problems.append(
            Problem(
                "spec.build.files", f"must not replace the program /app/{spec.build.binary or name}"
            )
        )
    if problems:
        raise InvalidSpec(problems)
    annotations = metadata.get("annotations") or {}
    return GoService(
        namespace=namespace,
        name=name,
        uid=str(metadata.get("uid") or ""),
        generation=int(metadata.get("generation") or 1),
        spec=spec,
        rebuild_requested_at=str(annotations.get(REBUILD_ANNOTATION, ""))[:64],
        restart_requested_at=str(annotations.get(RESTART_ANNOTATION, ""))[:64],
    )


def dump(spec: Spec) -> dict[str, Any]:
    """The spec as a user would write it: camelCase, without what equals a default."""
    return spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _without_nulls(value: Any) -> Any:
    """The value as the API server stores it: it drops a null field."""
    if isinstance(value, Mapping):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(v) for v in value]
    return value


_WORDS = {
    "missing": "is required",
    "extra_forbidden": "is not a field; see kubectl explain goservice.{parent}",
    "string_type": "must be a string, not {input}",
    "int_type": "must be a whole number, not {input}",
    "int_parsing": "must be a whole number, not {input}",
    "int_from_float": "must be a whole number, not {input}",
    "bool_type": "must be true or false, not {input}",
    "bool_parsing": "must be true or false, not {input}",
    "list_type": "must be a list, not {input}",
    "dict_type": "must be a mapping, not {input}",
    "model_type": "must be a mapping, not {input}",
    "model_attributes_type": "must be a mapping, not {input}",
    "greater_than_equal": "must be at least {ge}, not {input}",
    "less_than_equal": "must be at most {le}, not {input}",
    "too_long": "must have at most {max_length} items, has {actual_length}",
    "too_short": "must have at least {min_length} items, has {actual_length}",
    "enum": "must be {expected}, not {input}",
}


def _problems(error: ErrorDetails) -> list[Problem]:
    """What one of pydantic's errors says, in the words of the API: several for broken rules."""
    context = dict(error.get("ctx") or {})
    path = "spec"
    for part in error["loc"]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part not in ("int", "str", "[key]"):
            path += f".{part}"
    if "faults" in context:
        return [Problem(f"{path}.{field}" if field else path, m) for field, m in context["faults"]]
    template = _WORDS.get(error["type"])
    if template is None or (error["type"] == "enum" and "expected" not in context):
        return [Problem(path, error["msg"])]
    words = {**context, "input": shown(error["input"]), "parent": path.rpartition(".")[0]}
    return [Problem(path, template.format(**words))]
