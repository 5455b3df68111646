"""The platform's configuration: what a platform team decides once for all services.

It is read at start from a YAML file (camelCase) and from `GOSERVICE_…` variables, which win:
`GOSERVICE_BUILDS__MAX_CONCURRENT=4` is `builds.maxConcurrent: 4`. An unknown key refuses to start.
Only `load` reads anything; the rest of the program is handed the frozen result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, IPvAnyNetwork, ValidationError
from pydantic.alias_generators import to_camel

from goservice.api.reaches import Reaches
from goservice.errors import SettingsError

PREFIX = "GOSERVICE_"
"""How the variables begin that are settings."""

FILE_VARIABLE = "GOSERVICE_SETTINGS"
"""The variable that names the settings file where no option does."""

DEFAULT_FILE = Path("/etc/goservice/settings.yaml")
"""The settings file where nothing names one: the manifests mount a ConfigMap there."""

FOREIGN = ("GOSERVICE_TEST_", "GOSERVICE_OPERATOR_", "GOSERVICE_CLI_")
"""Beginnings of variables that are no settings: the tests', service links', the command line's."""

ImageName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$", max_length=512)]


def _without_password(text: str) -> str:
    """An address that stands in every rendered Dockerfile, for all to read."""
    if "@" in text:
        raise ValueError("must not carry user or password: every rendered Dockerfile shows it")
    return text


Address = Annotated[
    str,
    Field(pattern=r"^https?://[A-Za-z0-9._~:/@+-]+$", max_length=512),
    AfterValidator(_without_password),
]
Proxies = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9._~:/@+,|-]+$", max_length=512),
    AfterValidator(_without_password),
]


_KEY = r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
"""The key of a label or annotation, as the API server takes it."""
OURS = (
    "goservice.dev/",
    "app.kubernetes.io/",
    "batch.kubernetes.io/",
    "sidecar.istio.io/",
    "linkerd.io/",
)
"""Beginnings of keys that the operator or Kubernetes writes to a build's pod."""


def _foreign_keys(given: dict[str, str]) -> dict[str, str]:
    for key in given:
        if not re.fullmatch(_KEY, key):
            raise ValueError(
                f"{key!r} is no key of a label or annotation, such as example.com/team"
            )
        if key.startswith(OURS):
            raise ValueError(f"{key!r} is written by the operator: leave it out")
    return given


def _label_values(given: dict[str, str]) -> dict[str, str]:
    for key, value in given.items():
        if not re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", value):
            raise ValueError(
                f"{key!r} must be at most 63 letters, digits, -, _ and ., not {value!r}"
            )
    return given


Labels = Annotated[dict[str, str], AfterValidator(_foreign_keys), AfterValidator(_label_values)]
Annotations = Annotated[dict[str, str], AfterValidator(_foreign_keys)]


class Section(BaseModel):
    """A part of the settings."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


class Images(Section):
    """The images that the operator runs and builds on. All are written out in the install's file."""

    operator: Annotated[ImageName, Reaches.NOTHING]
    """The operator's own image: the build pod's `fetch` and `push` containers run it."""
    kaniko: Annotated[ImageName, Reaches.NOTHING]
    """The Kaniko executor."""
    builder: Annotated[ImageName, Reaches.IMAGE]
    """Where Go comes from when a service names no builderImage."""
    busybox: Annotated[ImageName, Reaches.IMAGE]
    """What base Busybox stands for."""
    alpine: Annotated[ImageName, Reaches.IMAGE]
    """What base Alpine stands for."""
    distroless: Annotated[ImageName, Reaches.IMAGE]
    """What base Distroless stands for."""


class HasResources(Protocol):
    """What has requests and limits: the resource's own shape."""

    @property
    def requests(self) -> Mapping[str, str] | None: ...
    @property
    def limits(self) -> Mapping[str, str] | None: ...


class Compute(Section):
    """Requests and limits, as quantities."""

    requests: dict[str, str] = {}
    """What the scheduler sets aside."""
    limits: dict[str, str] = {}
    """What may be used at the most."""

    def under(self, own: HasResources | None) -> dict[str, dict[str, str]]:
        """A user's requests and limits, and these for every resource that the user does not name."""
        requests = dict((own.requests if own else None) or {})
        limits = dict((own.limits if own else None) or {})
        named = {*requests, *limits}
        return {
            "requests": {k: v for k, v in self.requests.items() if k not in named} | requests,
            "limits": {k: v for k, v in self.limits.items() if k not in named} | limits,
        }


class StepCompute(Compute):
    """Requests and limits of the containers beside the one that builds."""

    toolchain: Compute | None = None
    """Of the container toolchain, which copies Go and compiles the standard library. Left out: as build."""


class Builds(Section):
    """How builds run."""

    max_concurrent: Annotated[int, Field(ge=1), Reaches.NOTHING] = 10
    """Builds that run at once in the cluster; the others queue, and namespaces take turns."""
    max_concurrent_per_namespace: Annotated[int | None, Field(ge=1), Reaches.NOTHING] = None
    """Builds of one namespace that run at once. Default: half of maxConcurrent, rounded up; all of it where the operator serves one namespace only."""
    engine: Annotated[Literal["Kaniko"], Reaches.NOTHING] = "Kaniko"
    """What builds images: Kaniko, in a container that runs as root without privileges."""
    module_proxy: Annotated[Proxies, Reaches.IMAGE]
    """GOPROXY of services that name none."""
    package_mirror: Annotated[Address | Literal[""], Reaches.IMAGE] = ""
    """Mirror of the distribution's packages for services that name none."""
    resources: Annotated[Compute, Reaches.NOTHING] = Compute()
    """Of the containers build and toolchain, where a service's build.resources name none."""
    step_resources: Annotated[StepCompute, Reaches.NOTHING] = StepCompute(
        requests={"cpu": "50m", "memory": "64Mi"}, limits={"memory": "512Mi"}
    )
    """Of the containers fetch and push."""
    source_size_limit: Annotated[str, Reaches.NOTHING] = "2Gi"
    """Space for the checked-out repository."""
    output_size_limit: Annotated[str, Reaches.NOTHING] = "4Gi"
    """Space for the built image before it is pushed."""
    cache_size_limit: Annotated[str, Reaches.NOTHING] = "8Gi"
    """Space for Go's build and module caches, and for a mounted toolchain, during a build."""
    toolchain: Annotated[Literal["Image", "Mounted"], Reaches.NOTHING] = "Image"
    """Where Go comes from for services that do not say: Mounted (faster) or Image. Where a service installs packages, Image."""
    toolchain_volume: Annotated[Literal["Copy", "Image"], Reaches.NOTHING] = "Copy"
    """How a mounted toolchain gets there: Copy, by a container of the builder image before each build; or Image, an image volume, which takes a container runtime that has them (containerd 2.1, CRI-O 1.31)."""
    pod_labels: Annotated[Labels, Reaches.NOTHING] = {}
    """Labels of build pods, such as those that a NetworkPolicy or a quota selects on."""
    pod_annotations: Annotated[Annotations, Reaches.NOTHING] = {}
    """Annotations of build pods."""
    insecure_registries: Annotated[tuple[str, ...], Reaches.NOTHING] = ()
    """Registries (host:port) that may speak plain HTTP."""
    registry_mirrors: Annotated[tuple[str, ...], Reaches.NOTHING] = ()
    """Mirrors of Docker Hub."""


class Services(Section):
    """What runs where a service names nothing."""

    resources: Annotated[Compute, Reaches.POD] = Compute()
    """Of the service's container, where it names none."""
    tmp_size_limit: Annotated[str, Reaches.POD] = "64Mi"
    """Space under /tmp."""
    run_as_user: Annotated[bool, Reaches.POD] = True
    """Whether pods name their user. false on OpenShift, which assigns one."""


class GitAccess(Section):
    """Which git servers may be asked."""

    allowed_hosts: tuple[str, ...] = ()
    """Hosts (host or host:port) that sources may name; empty: all public ones."""
    allow_http: bool = False
    """Whether http URLs may be used."""
    allowed_networks: tuple[IPvAnyNetwork, ...] = ()
    """Networks (CIDR) that are not public and may be asked all the same."""
    least_poll_seconds: Annotated[int, Field(ge=0, le=86400)] = 0
    """Seconds between looks at a repository at the least, whatever its services ask for."""

    timeout_seconds: Annotated[int, Field(ge=1, le=300)] = 30
    """Seconds that a git server has to say what a revision means. Ten are asked at once."""

    def poll_seconds(self, wanted: int) -> int:
        """Seconds between looks at a repository whose service asks for so many; 0: it is not polled."""
        return max(wanted, self.least_poll_seconds) if wanted else 0


class Registries(Section):
    """Which registries images may be pushed to."""

    allowed: tuple[str, ...] = ()
    """Beginnings of image repositories that services may name, by whole parts, such as registry.example.com/shop; empty: all."""


class Client(Section):
    """How much of the API server the operator may use."""

    qps: Annotated[float, Field(gt=0)] = 200.0
    """Requests per second in the long run."""
    burst: Annotated[int, Field(ge=1)] = 400
    """Requests at once."""
    workers: Annotated[int, Field(ge=1, le=256)] = 16
    """Services that are worked on at once."""


class Log(Section):
    """What the operator logs."""

    format: Literal["text", "json"] = "text"
    """`json`: one object a line."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged."""


class Settings(Section):
    """The whole configuration, immutable, one snapshot per pass."""

    images: Images
    """Images that the operator runs and builds on."""
    builds: Builds
    """How builds run."""
    services: Services = Services()
    """What runs where a service names nothing."""
    git: Annotated[GitAccess, Reaches.NOTHING] = GitAccess()
    """Which git servers may be asked."""
    registries: Annotated[Registries, Reaches.NOTHING] = Registries()
    """Which registries images may be pushed to."""
    client: Annotated[Client, Reaches.NOTHING] = Client()
    """How much of the API server the operator may use."""
    log: Annotated[Log, Reaches.NOTHING] = Log()
    """What the operator logs."""
    namespaces: Annotated[tuple[str, ...], Reaches.NOTHING] = ()
    """Namespaces to watch; empty: all."""
    port: Annotated[int, Field(ge=1, le=65535), Reaches.NOTHING] = 8080
    """Where /healthz, /readyz and /metrics answer."""
    relist_seconds: Annotated[int, Field(ge=60), Reaches.NOTHING] = 3600
    """Seconds between full looks at the cluster, in case a watch missed something."""
    watch_silence_seconds: Annotated[float, Field(ge=10), Reaches.NOTHING] = 120
    """Seconds without a word from the API server on a watch after which /healthz fails."""

    @property
    def builds_of_a_namespace(self) -> int:
        """How many builds of one namespace may run at once."""
        most, named = self.builds.max_concurrent, self.builds.max_concurrent_per_namespace
        alone = len(self.namespaces) == 1
        return min(most, named or (most if alone else (most + 1) // 2))


def load(file: Path | None, environment: Mapping[str, str]) -> Settings:
    """The settings of a file and the environment, which wins.

    Raises:
        SettingsError: naming each key that is unknown or wrong.
    """
    path = file or Path(environment.get(FILE_VARIABLE, str(DEFAULT_FILE)))
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: is not YAML: {error}") from None
    if not isinstance(tree, dict):
        raise SettingsError(f"{path}: must be a mapping, such as images: {{kaniko: …}}")
    return _validated(_merged(tree, environment), str(path))


def _validated(tree: Mapping[str, Any], origin: str) -> Settings:
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        faults = [
            f"{'.'.join(str(p) for p in e['loc'])}: "
            + ("is not a setting" if e["type"] == "extra_forbidden" else e["msg"].lower())
            for e in error.errors(include_url=False)
        ]
        raise SettingsError(f"{origin}: " + "; ".join(faults)) from None


def _merged(tree: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """The file's tree with the variables written over it."""
    merged = {k: dict(v) if isinstance(v, dict) else v for k, v in tree.items()}
    for variable in sorted(environment):
        if (
            not variable.startswith(PREFIX)
            or variable == FILE_VARIABLE
            or variable.startswith(FOREIGN)
        ):
            continue
        *parents, last = [to_camel(part.lower()) for part in variable[len(PREFIX) :].split("__")]
        section = merged
        for parent in parents:
            below = section.get(parent)
            section[parent] = dict(below) if isinstance(below, dict) else {}
            section = section[parent]
        try:
            section[last] = yaml.safe_load(environment[variable])
        except yaml.YAMLError:
            section[last] = environment[variable]
    return merged
