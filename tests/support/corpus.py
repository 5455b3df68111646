"""Resources that are accepted and refused, by `goservice validate` and a real API server alike.

Every leaf of the CRD has a bad row, and a value that tells what a change of it does. `schema` rows are refused by both; `operator` rows need the
platform's settings, so both accept them and the status says why nothing happens.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from goservice.api import crd, resource
from tests.support import factories

Change = dict[str, Any]
"""Fields of the spec that replace the factory's; None takes one away."""
DIGEST = "sha256:" + "a" * 64
"""A digest that no image has."""
GIT = "https://git.example.com/shop/checkout.git"
"""A repository that nothing asks."""
IMAGE = "registry.example.com/shop/checkout"
"""An image that nothing pulls."""


@dataclass(frozen=True)
class Bad:
    """One bad resource: the field that is named, and words that every message about it has."""

    title: str
    """What is wrong, for the test's name."""
    field: str
    """The path that the message must name."""
    change: Change
    """What makes it bad."""
    says: str
    """Words of `goservice validate`."""
    server: str = ""
    """The API server's words, where they are Kubernetes' own and others than ours."""
    by: Literal["schema", "operator"] = "schema"
    """Who refuses it: the CRD's schema, or the operator with the platform's settings."""
    reason: str = ""
    """Of the operator's refusal."""
    settings: Change = dataclasses.field(default_factory=dict)
    """The platform's settings that refuse it."""
    name: str = ""
    """metadata.name, where that is what is wrong."""


COMPANIONS: dict[str, Any] = {
    "source.git": {"url": GIT},
    "image": {"repository": IMAGE},
    "build.files[]": {"from": "a", "to": "/a"},
    "build.variables[]": {"name": "main.a", "value": "b"},
    "ports[]": {"name": "http", "port": 8080},
    "env[]": {"name": "A"},
    "env[].valueFrom.configMapKeyRef": {"name": "a", "key": "b"},
    "env[].valueFrom.secretKeyRef": {"name": "a", "key": "b"},
    "env[].valueFrom.resourceFieldRef": {"resource": "limits.memory"},
    "autoscaling": {"maxReplicas": 4},
    "envFrom[].configMapRef": {"name": "a"},
    "envFrom[].secretRef": {"name": "a"},
    **{
        f"probes.{probe}.httpGet.httpHeaders[]": {"name": "A", "value": "b"}
        for probe in ("startup", "readiness", "liveness")
    },
    **{
        f"autoscaling.behavior.{way}.policies[]": {"type": "Pods", "value": 1, "periodSeconds": 60}
        for way in ("scaleUp", "scaleDown")
    },
    **{
        f"autoscaling.metrics[].{kind}.metric.selector.matchExpressions[]": {
            "key": "a",
            "operator": "In",
            "values": ["b"],
        }
        for kind in ("pods", "object", "external")
    },
    **{
        f"autoscaling.metrics[].{kind}.metric": {"name": "a"}
        for kind in ("pods", "object", "external")
    },
}
"""What else is needed, by the place of the object that needs it."""
SHARE = {"type": "Utilization", "averageUtilization": 80}
"""A target in percent of a request."""
PER_POD = {"type": "AverageValue", "averageValue": "1"}
"""A target for each pod."""
METRICS: dict[str, Change] = {
    "resource": {"name": "cpu", "target": SHARE},
    "containerResource": {"container": "app", "name": "cpu", "target": SHARE},
    "pods": {"metric": {"name": "a"}, "target": PER_POD},
    "object": {
        "describedObject": {"kind": "Ingress", "name": "a"},
        "metric": {"name": "a"},
        "target": PER_POD,
    },
    "external": {"metric": {"name": "a"}, "target": PER_POD},
}
"""One metric of each type, by the field that holds it."""


def body(change: Change, name: str = "") -> dict[str, Any]:
    """The resource with a change, as a user would write it."""
    made = factories.body(**copy.deepcopy(change))
    made["spec"] = {key: value for key, value in made["spec"].items() if value is not None}
    metadata = {"name": name or made["metadata"]["name"], "namespace": "default"}
    return {**made, "metadata": metadata}


def at(path: str, value: Any) -> Change:
    """A change that sets one field, and around it what is needed: `build.files[0].to`."""
    metric = re.match(r"autoscaling\.metrics\[0\]\.(\w+)", path)
    change: Change = {}
    if metric and metric[1] in METRICS:
        kind = metric[1]
        one = {"type": kind[0].upper() + kind[1:], kind: copy.deepcopy(METRICS[kind])}
        change = {"autoscaling": {"maxReplicas": 4, "metrics": [one]}}
    steps = re.findall(r"[^.\[\]]+|\[\d+\]", path.replace("\\.", "\0"))
    place: Any = change
    shape = ""
    for index, step in enumerate(steps):
        last = index == len(steps) - 1
        shape += "[]" if step.startswith("[") else f".{step}".replace("\0", ".")
        fresh = copy.deepcopy(COMPANIONS.get(shape.lstrip("."), {}))
        below = [] if not last and steps[index + 1].startswith("[") else fresh
        if step.startswith("["):
            if not place:
                place.append(below)
            if last:
                place[0] = value
            place = place[0]
            continue
        key = step.replace("\0", ".")
        if last:
            place[key] = value
        else:
            place = place.setdefault(key, below)
    return change


def otherwise(path: str) -> tuple[Change, Change]:
    """Specs before and after a change of one field, or group, of `OTHERWISE`."""
    before = copy.deepcopy(NEEDED.get(path, {}))
    after: Change = {**factories.body()["spec"], **copy.deepcopy(before)}
    *parents, last = path.split(".")
    place = after
    for parent in parents:
        below = place.setdefault(parent, {})
        place = below[0] if isinstance(below, list) else below
    place[last] = OTHERWISE[path]
    return before, after


def spread(path: str) -> Iterator[str]:
    """`a.{b,c}.d` as `a.b.d` and `a.c.d`."""
    parts = re.split(r"\{([^}]*)\}", path)
    choices = [p.split(",") if i % 2 else [p] for i, p in enumerate(parts)]
    for chosen in itertools.product(*choices):
        yield "".join(chosen)


def wrong(title: str, path: str, value: Any, says: str, server: str = "") -> Iterator[Bad]:
    """A value that one field, or each of several, must not have."""
    paths = list(spread(path))
    for each in paths:
        name = title if len(paths) == 1 else f"{title}: {each}"
        yield Bad(name, f"spec.{each}", at(each, value), says, server)


def number(path: str, lowest: int, highest: int) -> Iterator[Bad]:
    """A whole number within bounds."""
    yield from wrong(f"{path} too small", path, lowest - 1, str(lowest))
    yield from wrong(f"{path} too large", path, highest + 1, str(highest))
    yield from wrong(f"{path} in words", path, "many", "whole number", "integer")


def truth(path: str) -> Iterator[Bad]:
    """True or false."""
    yield from wrong(f"{path} in words", path, "yes", "true or false", "boolean")


def choice(path: str, allowed: str) -> Iterator[Bad]:
    """One of a few words, of which `allowed` is one."""
    yield from wrong(f"{path} unknown", path, "Wrong", allowed)


def rows() -> Iterator[Bad]:
    """Every bad resource."""
    yield from metadata()
    yield from source()
    yield from build()
    yield from image()
    yield from pod()
    yield from probes()
    yield from scaling()
    yield from shapes()
    yield from too_much("", crd.schema(resource.Spec))
    yield from operator()


def metadata() -> Iterator[Bad]:
    words = "at most 40 lower case letters"
    for title, name in (
        ("a long name", "a" * 41),
        ("a name with a digit first", "9a"),
        ("a name with a dot", "a.b"),
    ):
        yield Bad(title, "metadata.name", {}, words, name=name)
    for title, name in (("a name in capitals", "Checkout"), ("a name with a hyphen last", "a-")):
        yield Bad(title, "metadata.name", {}, words, "lowercase RFC 1123 subdomain", name=name)


def source() -> Iterator[Bad]:
    yield Bad(
        "no source", "spec.source", {"source": None}, "is required unless image.digest is set"
    )
    yield Bad("no url", "spec.source.git.url", {"source": {"git": {}}}, "equired")
    url = "http(s) URL of a git repository without user, password, query or '..'"
    for value in (
        "git@example.com:a.git",
        "ssh://git@example.com/a",
        "https://u:p@example.com/a",
        "ext::sh -c id",
        "file:///etc/passwd",
        "https://example.com/../a",
        "https://example.com/a?b=c",
        "https://example.com/a\n",
        "--upload-pack=id",
        "https://example.com/$(id)",
        "https://example.com/%2e%2e/a",
        "https://example.com/./a",
        "https://example.com/...",
        "",
    ):
        yield from wrong(f"as url {value!r}", "source.git.url", value, url)
    yield from wrong("a long url", "source.git.url", GIT + "a" * 512, "512")
    for value in (
        "main\n",
        "--upload-pack=x",
        "a b",
        "a..b/../c",
        "refs/heads/",
        "$(id)",
        "a\\b",
        "a.lock",
        "a@{b",
        "-x",
        "/x",
        ".x",
        "\x1b[2J",
    ):
        yield from wrong(
            f"as revision {value!r}",
            "source.git.revision",
            value,
            "a branch, a tag, a full commit of 40 hex digits, or refs/",
        )
    yield from wrong("a long revision", "source.git.revision", "a" * 201, "200")
    for value in ("../a", "/a", "a/../b", "a//b", "a b", "-x\n", ""):
        yield from wrong(
            f"as directory {value!r}",
            "source.git.directory",
            value,
            "a path below the repository's root, without a leading / or ..",
        )
    yield from number("source.pollIntervalSeconds", 0, 86400)


def build() -> Iterator[Bad]:
    for value in ("cmd/a", "../a", "./a/..", "-o", "./a b", "./$(id)", "all"):
        yield from wrong(
            f"as package {value!r}",
            "build.package",
            value,
            "a package path such as . or ./cmd/checkout",
        )
    for value in ("a/b", "..", "-o", "a b", 'a"b', ""):
        yield from wrong(
            f"as binary {value!r}",
            "build.binary",
            value,
            "a file name of letters, digits, ., _ and -",
        )
    yield from wrong("a long binary", "build.binary", "a" * 64, "63")
    yield from wrong("a number for a text", "build.binary", 1, "a string", "string")
    for value in ("golang 1.27", "golang\nRUN id", "-golang", "$IMAGE", "golang:", "a/B"):
        yield from wrong(
            f"as builder {value!r}",
            "build.builderImage",
            value,
            "an image reference, such as alpine:3.24",
        )
    yield from choice("build.base", "Scratch")
    change: Change = {"build": {"base": "Alpine", "baseImage": "alpine AS builder"}}
    yield Bad(
        "a base image of three words",
        "spec.build.baseImage",
        change,
        "an image reference, such as alpine:3.24",
    )
    yield Bad(
        "custom without image",
        "spec.build.baseImage",
        {"build": {"base": "Custom"}},
        "is required when base is Custom",
    )
    yield Bad(
        "scratch with image",
        "spec.build.baseImage",
        {"build": {"baseImage": "alpine"}},
        "must not be set when base is Scratch",
    )
    for value in ("--allow-untrusted", "a b", "a;id", "A", "a=1"):
        yield from wrong(
            f"as package to install {value!r}",
            "build.packages[0]",
            value,
            "a package name of lower case letters",
        )
    yield Bad(
        "a package twice",
        "spec.build.packages",
        {"build": {"packages": ["git", "git"]}},
        "twice",
        "Duplicate",
    )
    yield Bad(
        "a mirror for nothing",
        "spec.build.packageMirror",
        at("build.packageMirror", "https://m.example.com"),
        "needs packages to install",
    )
    for value in (
        "ftp://m.example.com",
        "https://u:p@m.example.com",
        "https://m.example.com/#x",
        "https://m.example.com/../a",
    ):
        change = {"build": {"packages": ["git"], "packageMirror": value}}
        yield Bad(
            f"as mirror {value!r}",
            "spec.build.packageMirror",
            change,
            "an http(s) URL without user, password or query",
        )
    for value in ("/etc/passwd", "../a", "a b", ""):
        yield from wrong(
            f"as file {value!r}", "build.files[0].from", value, "a path below the repository's root"
        )
    for value in ("a", "/", "/a/../b", "/a b", "/a\n"):
        yield from wrong(
            f"as place {value!r}", "build.files[0].to", value, "an absolute path without .."
        )
    for value in (
        "/etc",
        "/etc/passwd",
        "/proc/x",
        "/tmp/web",
        "/var/run/web",
        "/dev",
        "/gocache/a",
    ):
        yield from wrong(
            f"as place {value!r}", "build.files[0].to", value, "must not be below /etc, /proc"
        )
    yield Bad(
        "a file twice",
        "spec.build.files",
        {"build": {"files": [{"from": "a", "to": "/a"}, {"from": "b", "to": "/a"}]}},
        "twice",
        "Duplicate",
    )
    yield Bad(
        "a file over the program",
        "spec.build.files",
        at("build.files[0].to", "/app/checkout"),
        "must not replace the program",
    )
    change = {"build": {"binary": "b", "files": [{"from": "a", "to": "/app/b"}]}}
    yield Bad(
        "a file over the named program", "spec.build.files", change, "must not replace the program"
    )
    for value in ("a b", "-x", "a,b", "a'"):
        yield from wrong(
            f"as tag {value!r}",
            "build.tags[0]",
            value,
            "a Go build tag of letters, digits, _ and .",
        )
    yield Bad(
        "a tag twice", "spec.build.tags", {"build": {"tags": ["a", "a"]}}, "twice", "Duplicate"
    )
    for value in ("a", "main.a b", "-X main.a", "main.a=b"):
        yield from wrong(
            f"as variable {value!r}",
            "build.variables[0].name",
            value,
            "a package path and a variable, such as main.version",
        )
    for value in ("'", '"', "$(TIME)", "$HOME", "a\nb", "\\", "\t", "{{7*7}}", "`id`"):
        yield from wrong(
            f"as value {value!r}",
            "build.variables[0].value",
            value,
            "$(COMMIT), $(REVISION), $(INPUTS), $(NAME), $(NAMESPACE)",
        )
    for value in ("https://u:p@p.example.com", "direct;id", "file:///a", "", "a b"):
        yield from wrong(
            f"as proxy {value!r}",
            "build.modules.proxy",
            value,
            "a GOPROXY list: http(s) URLs, direct or off",
        )
    yield from choice("build.modules.download", "AfterSource")
    yield from choice("build.toolchain", "Mounted")
    yield Bad(
        "packages beside a mounted toolchain",
        "spec.build.toolchain",
        {"build": {"toolchain": "Mounted", "packages": ["tzdata"]}},
        "must not be Mounted where packages are installed",
    )
    for value in ("a/b", "A", "a..b", "../other", ""):
        yield from wrong(
            f"as claim {value!r}",
            "build.cache.claimName",
            value,
            "a Kubernetes object name (lower case letters, digits, - and .)",
        )
    for value in ("5 Gi", "much", "-1", ""):
        yield from wrong(
            f"as size {value!r}", "build.cache.size", value, "a quantity such as 500m, 1 or 256Mi"
        )
    yield from wrong("a cache of no size", "build.cache.size", 0, "must be greater than 0")
    yield from wrong(
        "a class with a space",
        "build.cache.storageClassName",
        "a b",
        "a Kubernetes object name (lower case letters, digits, - and .)",
    )
    caches: tuple[Change, ...] = ({}, {"claimName": "a", "size": "1Gi"})
    for cache in caches:
        yield Bad(
            f"as cache {cache!r}",
            "spec.build.cache",
            {"build": {"cache": cache}},
            "must have exactly one of claimName, size",
        )
    yield Bad(
        "a class for a claim that is there",
        "spec.build.cache.storageClassName",
        {"build": {"cache": {"claimName": "a", "storageClassName": "fast"}}},
        "needs size",
    )
    yield from resources("build.resources")
    yield from number("build.timeoutSeconds", 60, 86400)
    yield from number("build.history.{succeeded,failed}", 1, 20)


def resources(path: str) -> Iterator[Bad]:
    for value in ("12Q", "-1", "1 Gi", "1e999999999", -1, "", "0x10"):
        yield from wrong(
            f"{path} of {value!r}",
            path + ".{requests,limits}.memory",
            value,
            "a quantity such as 500m, 1 or 256Mi",
        )
    for key in ("a b", "CPU", "disk", "-cpu"):
        for part in ("requests", "limits"):
            yield Bad(
                f"{path}.{part} of {key!r}",
                f"spec.{path}.{part}",
                at(f"{path}.{part}", {key: "1"}),
                "cpu, memory, ephemeral-storage or an extended resource such as example.com/gpu",
            )
    half = {"limits": {"example.com/gpu": "500m"}}
    yield Bad(
        f"{path}: half a device",
        f"spec.{path}.limits",
        at(path, half),
        "must be whole numbers for extended resources such as example.com/gpu",
    )
    more = {"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}
    yield Bad(
        f"{path}: more than the limit",
        f"spec.{path}.requests",
        at(path, more),
        "must not be greater than the limits",
    )
    yield Bad(
        f"{path}: a device without a limit",
        f"spec.{path}.requests",
        at(path, {"requests": {"example.com/gpu": 1}}),
        "must have an equal limit for an extended resource",
    )


def image() -> Iterator[Bad]:
    yield Bad("no image", "spec.image", {"image": None}, "equired")
    yield Bad("no repository", "spec.image.repository", {"image": {"digest": DIGEST}}, "equired")
    for value in (
        IMAGE + ":1",
        IMAGE + "@" + DIGEST,
        "https://example.com/a",
        "a b",
        "-a",
        "A",
        "../a",
        "",
    ):
        yield from wrong(
            f"as repository {value!r}",
            "image.repository",
            value,
            "an image repository without tag or digest, such as registry.example.com/shop/checkout",
        )
    for value in ("sha256:ab", "a" * 64, "sha256:" + "A" * 64):
        yield from wrong(
            f"as digest {value!r}",
            "image.digest",
            value,
            "a digest: sha256: and 64 lower case hex digits",
        )
    for value in ("$(TIME)", "a b", "-a", ".a", "a/b", "$COMMIT", ""):
        yield from wrong(
            f"as image tag {value!r}",
            "image.tag",
            value,
            "an image tag, in which these placeholders stand: $(COMMIT)",
        )
    for value in ("a/b", "A", "a..b", "-a", ""):
        yield from wrong(
            f"as secret {value!r}",
            "image.{pushSecretRef.name,pullSecretRefs[0].name}",
            value,
            "a Kubernetes object name (lower case letters, digits, - and .)",
        )


def pod() -> Iterator[Bad]:
    yield from number("user.uid", 1, 2147483647)
    for value in ("Root", "a b", "a:x", "a\n", "", "-a"):
        yield from wrong(
            f"as user {value!r}",
            "user.name",
            value,
            "a Unix user name (lower case letters, digits, _ and -, at most 32)",
        )
    yield from wrong("root by name", "user.name", "root", "must not be root or nobody")
    yield from wrong("nobody by name", "user.name", "nobody", "must not be root or nobody")
    yield from wrong("a zone that is none", "timeZone", "Mars/Olympus", "time zone", "Europe/Paris")
    yield from wrong("a zone upwards", "timeZone", "../../etc/passwd", "time zone", "Europe/Paris")
    yield from number("replicas", 0, 1000)
    yield from wrong("a fraction", "replicas", 1.5, "whole number", "integer")
    name = (
        "a port name (lower case letters, digits and single -, at most 15, starting with a letter)"
    )
    for value in ("A", "a--b", "9", "a_b", ""):
        yield from wrong(f"as port name {value!r}", "ports[0].name", value, name)
    yield from wrong("a long port name", "ports[0].name", "a" * 16, "15")
    yield from number("ports[0].{port,servicePort}", 1, 65535)
    for title, ports, says, server in (
        ("a port twice", [{"name": "a", "port": 1}, {"name": "b", "port": 1}], "twice", ""),
        (
            "a port name twice",
            [{"name": "a", "port": 1}, {"name": "a", "port": 2}],
            "twice",
            "Duplicate",
        ),
        (
            "a service port twice",
            [{"name": "a", "port": 8080}, {"name": "b", "port": 80}],
            "80 for the first, else port",
            "",
        ),
    ):
        yield Bad(title, "spec.ports", {"ports": ports}, says, server)
    yield from wrong("too many arguments", "args", ["a"] * 65, "64")
    yield from wrong("a long argument", "args[0]", "a" * 4097, "4096")
    yield from wrong("NUL in an argument", "args[0]", "a\0b", "text without NUL characters")
    for value in ("A B", "A=B", "9", "", "é"):
        yield from wrong(
            f"as variable's name {value!r}", "env[0].name", value, "an environment variable name"
        )
    yield from wrong("NUL in a variable", "env[0].value", "\0", "text without NUL characters")
    yield from wrong("a long variable", "env[0].value", "a" * 16385, "16384")
    both = {"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    yield Bad(
        "value and source", "spec.env[0]", {"env": [both]}, "must not have both value and valueFrom"
    )
    much = [{"name": f"V{n}", "value": "v" * 16_000} for n in range(17)]
    yield Bad("much env", "spec.env", {"env": much}, "must be at most 262144 characters in all")
    long = ["a" * 4000] * 17
    yield Bad("long args", "spec.args", {"args": long}, "must be at most 65536 characters in all")
    two = {"fieldRef": {"fieldPath": "metadata.name"}, "secretKeyRef": {"name": "a", "key": "b"}}
    yield Bad(
        "a variable of two sources",
        "spec.env[0].valueFrom",
        at("env[0].valueFrom", two),
        "must have exactly one of configMapKeyRef, secretKeyRef, fieldRef, resourceFieldRef",
    )
    yield Bad(
        "a variable twice",
        "spec.env",
        {"env": [{"name": "A"}, {"name": "A"}]},
        "twice",
        "Duplicate",
    )
    keys = "env[0].valueFrom.{configMapKeyRef,secretKeyRef}"
    yield from wrong("a reference elsewhere", keys + ".name", "other/a", "a Kubernetes object name")
    for value in ("a/b", "..", "a b"):
        yield from wrong(
            f"as key {value!r}",
            keys + ".key",
            value,
            "a key of letters, digits, -, _ and ., not starting with ..",
        )
    yield from truth(keys + ".optional")
    for value in (
        "spec.containers",
        "metadata",
        "metadata.labels",
        "status.phase",
        "metadata.labels['a b']",
    ):
        yield from wrong(
            f"as field {value!r}",
            "env[0].valueFrom.fieldRef.fieldPath",
            value,
            "metadata.name, metadata.namespace, metadata.uid",
        )
    for value in ("memory", "limits.disk", "limits"):
        yield from wrong(
            f"as resource {value!r}",
            "env[0].valueFrom.resourceFieldRef.resource",
            value,
            "limits or requests, a dot, and cpu, memory or ephemeral-storage",
        )
    yield from wrong(
        "a container with a space",
        "env[0].valueFrom.resourceFieldRef.containerName",
        "a b",
        "a container name (lower case letters, digits and -)",
    )
    yield from wrong(
        "half a unit",
        "env[0].valueFrom.resourceFieldRef.divisor",
        "500m",
        "1 and a unit, such as 1Mi or 1m",
    )
    yield from wrong(
        "memory in thousandths",
        "env[0].valueFrom.resourceFieldRef.divisor",
        "1m",
        "must be 1 or 1m for cpu, and not 1m for anything else",
    )
    yield Bad(
        "a prefix with a space",
        "spec.envFrom[0].prefix",
        {"envFrom": [{"prefix": "A B", "secretRef": {"name": "a"}}]},
        "the beginning of an environment variable name",
    )
    yield from wrong(
        "keys of elsewhere",
        "envFrom[0].{configMapRef,secretRef}.name",
        "other/a",
        "a Kubernetes object name",
    )
    yield from truth("envFrom[0].{configMapRef,secretRef}.optional")
    yield from wrong(
        "keys of nothing",
        "envFrom[0]",
        {"prefix": "A"},
        "must have exactly one of configMapRef, secretRef",
    )
    yield from resources("resources")
    yield from number("go.memoryLimitPercent", 1, 100)
    share = "a whole number from 0 to 1000 or a percentage such as 25%"
    for amount in ("120%", -1, 1001, "1.5", "half", "25"):
        yield from wrong(
            f"a share of {amount!r}",
            "{rollout.maxSurge,rollout.maxUnavailable,disruption.maxUnavailable}",
            amount,
            share,
        )
    yield from wrong(
        "a rollout that cannot move",
        "rollout.maxSurge",
        "0%",
        "must not be 0 when maxUnavailable is 0",
    )
    yield from number("rollout.progressDeadlineSeconds", 30, 86400)
    yield from number("rollout.terminationGracePeriodSeconds", 1, 86400)
    yield from number("rollout.preStopSeconds", 0, 3600)
    yield from wrong(
        "a stop longer than the grace",
        "rollout.preStopSeconds",
        30,
        "must be less than terminationGracePeriodSeconds",
    )
    yield from truth("suspend")


def probes() -> Iterator[Bad]:
    each = "probes.{startup,readiness,liveness}"
    port = "a port number from 1 to 65535 or the name of a port"
    yield from wrong(
        "a path without a slash", f"{each}.httpGet.path", "healthz", "a path that starts with /"
    )
    yield from wrong(
        "a path of two lines", f"{each}.httpGet.path", "/a\r\nHost: b", "a path that starts with /"
    )
    for value in (0, 65536, "a b"):
        yield from wrong(f"a probe at {value!r}", each + ".{httpGet,tcpSocket}.port", value, port)
    yield from wrong(
        "a probe at an unknown port",
        each + ".{httpGet,tcpSocket}.port",
        "grpc",
        "must be the name of a port in spec.ports, or a number",
    )
    yield from choice(f"{each}.httpGet.scheme", "HTTPS")
    yield from wrong(
        "a header with a space", f"{each}.httpGet.httpHeaders[0].name", "A B", "an HTTP header name"
    )
    yield from wrong(
        "a header of two lines",
        f"{each}.httpGet.httpHeaders[0].value",
        "a\r\nB: c",
        "a header value of printable ASCII characters",
    )
    yield from number(f"{each}.grpc.port", 1, 65535)
    yield from wrong(
        "NUL in a service", f"{each}.grpc.service", "\0", "text without NUL characters"
    )
    yield from wrong(
        "NUL in a command", f"{each}.exec.command[0]", "\0", "text without NUL characters"
    )
    yield from wrong("no command", f"{each}.exec.command", [], "at least 1")
    yield from number(f"{each}.initialDelaySeconds", 0, 86400)
    yield from number(each + ".{periodSeconds,timeoutSeconds}", 1, 86400)
    yield from number(f"{each}.successThreshold", 1, 100)
    yield from wrong(
        "two successes",
        "probes.{startup,liveness}.successThreshold",
        2,
        "must be 1 for startup and liveness",
    )
    yield from number(f"{each}.failureThreshold", 1, 1000)
    yield from number("probes.{startup,liveness}.terminationGracePeriodSeconds", 1, 86400)
    two: Change = {"httpGet": {}, "tcpSocket": {}}
    yield from wrong(
        "a probe of two kinds", each, two, "must have at most one of httpGet, tcpSocket, grpc, exec"
    )
    yield Bad(
        "a probe with a host",
        "spec.probes.readiness.httpGet.host",
        {"probes": {"readiness": {"httpGet": {"host": "x"}}}},
        "is not a field",
        "unknown field",
    )
    yield Bad(
        "a probe of a worker without a port",
        "spec.probes.liveness",
        {"ports": [], "probes": {"liveness": {"grpc": {}}}},
        "must name a port by number: the service has none in spec.ports",
    )


def scaling() -> Iterator[Bad]:
    yield from number("autoscaling.{minReplicas,maxReplicas}", 1, 1000)
    yield from number("autoscaling.targetCPUUtilizationPercentage", 1, 1000)
    yield from wrong(
        "more at least than at most",
        "autoscaling.minReplicas",
        5,
        "must not be greater than maxReplicas",
    )
    metric = "autoscaling.metrics[0]"
    yield Bad(
        "an unknown kind of metric",
        f"spec.{metric}.type",
        {"autoscaling": {"maxReplicas": 2, "metrics": [{"type": "Wrong"}]}},
        "External",
    )
    yield Bad(
        "a metric without its field",
        f"spec.{metric}",
        {"autoscaling": {"maxReplicas": 2, "metrics": [{"type": "Pods"}]}},
        "must have the one field that its type names",
    )
    share, value = metric + ".{resource,containerResource}", metric + ".{object,external}"
    yield from wrong(
        "a metric of",
        f"{share}.name",
        "disk",
        "cpu, memory, ephemeral-storage or an extended resource such as example.com/gpu",
    )
    yield from wrong(
        "a metric of a container with a space",
        f"{metric}.containerResource.container",
        "a b",
        "a container name",
    )
    yield from choice(f"{share}.target.type", "Utilization")
    yield from choice(f"{metric}.pods.target.type", "AverageValue")
    yield from choice(f"{value}.target.type", "AverageValue")
    yield from number(f"{share}.target.averageUtilization", 1, 1000)
    quantity = "a quantity such as 500m, 1 or 256Mi"
    yield from wrong("a target in words", share + ".target.averageValue", "many", quantity)
    yield from wrong("a target in words", metric + ".pods.target.averageValue", "many", quantity)
    yield from wrong("a target in words", value + ".target.{value,averageValue}", "many", quantity)
    yield from wrong(
        "a target of nothing",
        metric + ".{pods,object,external}.target.averageValue",
        0,
        "must be greater than 0",
    )
    yield from wrong(
        "a target of another type",
        f"{share}.target",
        {"type": "Utilization", "averageValue": "1"},
        "must have the one value that its type names",
    )
    yield from wrong(
        "a target of another type",
        f"{value}.target",
        {"type": "Value", "averageValue": "1"},
        "must have the one value that its type names",
    )
    named = metric + ".{pods,object,external}.metric"
    yield from wrong(
        "a metric with a slash",
        f"{named}.name",
        "a/b",
        "a metric name (letters, digits, _, ., :, | and -)",
    )
    label = "a label value (letters, digits, -, _ and .)"
    yield from wrong("a label with a space", f"{named}.selector.matchLabels.app", "a b", label)
    yield from wrong(
        "an expression's key",
        f"{named}.selector.matchExpressions[0].key",
        "a b",
        "a label key, such as app or example.com/app",
    )
    yield from choice(f"{named}.selector.matchExpressions[0].operator", "NotIn")
    yield from wrong(
        "an expression's value", f"{named}.selector.matchExpressions[0].values[0]", "a b", label
    )
    yield from wrong(
        "an expression without values",
        f"{named}.selector.matchExpressions[0].values",
        [],
        "must have values for In and NotIn",
    )
    described = f"{metric}.object.describedObject"
    yield from wrong(
        "an apiVersion that is none",
        f"{described}.apiVersion",
        "a b",
        "an apiVersion such as v1 or apps/v1",
    )
    yield from wrong("a kind that is none", f"{described}.kind", "a b", "a kind such as Ingress")
    yield from wrong(
        "an object elsewhere", f"{described}.name", "other/a", "a Kubernetes object name"
    )
    way = "autoscaling.behavior.{scaleUp,scaleDown}"
    yield from number(f"{way}.stabilizationWindowSeconds", 0, 3600)
    yield from choice(f"{way}.selectPolicy", "Disabled")
    yield from choice(f"{way}.policies[0].type", "Percent")
    yield from number(f"{way}.policies[0].value", 1, 10000)
    yield from number(f"{way}.policies[0].periodSeconds", 1, 1800)
    yield from wrong("no policy", f"{way}.policies", [], "at least 1")


def shapes() -> Iterator[Bad]:
    yield from wrong("a mapping for a list", "args", {"a": "b"}, "a list", "unknown field")
    yield from wrong("a list for a mapping", "build", [], "a mapping", "object")
    yield from wrong("a typo", "replica", 1, "is not a field", "unknown field")
    yield from wrong("a typo below", "source.git.ref", "x", "is not a field", "unknown field")
    yield from wrong("a text for a truth", "suspend", "true", "true or false", "boolean")


def too_much(path: str, node: dict[str, Any]) -> Iterator[Bad]:
    """One letter, item or key more than each limit of the schema."""
    key, device = ("memory", "example.com/d") if path.endswith(("requests", "limits")) else "ab"
    item = COMPANIONS.get(re.sub(r"\[0\]", "[]", path) + "[]", "a")
    for limit, beyond in (
        ("maxLength", lambda most: "a" * most),
        ("maxItems", lambda most: [copy.deepcopy(item)] * most),
        ("maxProperties", lambda most: {f"{device}{n}": "1" for n in range(most)}),
    ):
        if limit in node:
            most = node[limit]
            # Of a number that may be a text the allowed forms are told, which are all short.
            says = "must be " if "x-kubernetes-int-or-string" in node else str(most)
            title = f"{limit} of {path} and one"
            yield from wrong(title, path, beyond(most + 1), says, str(most))
    for name, child in node.get("properties", {}).items():
        yield from too_much(f"{path}.{name}".lstrip("."), child)
    if "items" in node:
        yield from too_much(f"{path}[0]", node["items"])
    if isinstance(node.get("additionalProperties"), dict):
        yield from too_much(f"{path}.{key}", node["additionalProperties"])


def operator() -> Iterator[Bad]:
    forbidden = "ForbiddenByPlatform"
    yield Bad(
        "plain http",
        "spec.source.git.url",
        at("source.git.url", "http://git.example.com/a"),
        "http is not allowed here; use https",
        by="operator",
        reason=forbidden,
    )
    yield Bad(
        "a host that is not on the list",
        "spec.source.git.url",
        {},
        "must be on git.example.org",
        by="operator",
        reason=forbidden,
        settings={"git": {"allowed_hosts": ("git.example.org",)}},
    )
    yield Bad(
        "a registry that is not on the list",
        "spec.image.repository",
        {},
        "must start with registry.example.org/",
        by="operator",
        reason=forbidden,
        settings={"registries": {"allowed": ("registry.example.org/",)}},
    )
    yield Bad(
        "a registry that only begins like one on the list",
        "spec.image.repository",
        {},
        "must start with registry.example.co",
        by="operator",
        reason=forbidden,
        settings={"registries": {"allowed": ("registry.example.co", "registry.example.com/sho")}},
    )
    yield Bad(
        "scaling by CPU without a request",
        "spec.autoscaling",
        {"autoscaling": {"maxReplicas": 2}, "resources": {"limits": {"cpu": "1"}}},
        "needs spec.resources.requests.cpu, such as 100m",
        by="operator",
        reason="CPURequestMissing",
    )


ACCEPTED: dict[str, Change] = {
    "nothing more": {},
    "digest alone": {"source": None, "image": {"repository": IMAGE, "digest": DIGEST}},
    "source and digest": {"image": {"repository": IMAGE, "digest": DIGEST}},
    "plain http": {"source": {"git": {"url": "http://10.0.0.1:3000/a.git"}}},
    "a port in the registry": {"image": {"repository": "10.0.0.1:5000/shop/checkout"}},
    "a tag with placeholders": {"image": {"repository": IMAGE, "tag": "$(REVISION)-$(INPUTS)"}},
    "revision refs": {"source": {"git": {"url": GIT, "revision": "refs/tags/v1.0"}}},
    "a revision with # @ { and ü": {"source": {"git": {"url": GIT, "revision": "fix/#42@1.2.0-{ü"}}},
    "a folder as people write it": {"source": {"git": {"url": GIT, "directory": "./services/a/"}}},
    "an IPv6 host": {"source": {"git": {"url": "https://[2001:db8::1]:3000/a.git"}}},
    "a scheme in capitals": {"source": {"git": {"url": "HTTPS://git.example.com/a.git"}}},
    "a repository .github": {"source": {"git": {"url": "https://git.example.com/shop/.github"}}},
    "a url with %20 and _": {"source": {"git": {"url": "https://git_1.example.com/a%20b/c.git"}}},
    "poll never": {"source": {"git": {"url": GIT}, "pollIntervalSeconds": 0}},
    "custom base": {"build": {"base": "Custom", "baseImage": "alpine"}},
    "packages and mirror": {
        "build": {"packages": ["tzdata", "g++"], "packageMirror": "https://m.example.com/x"}
    },
    "files": {"build": {"files": [{"from": "a-b/.c", "to": "/etcetera/x"}]}},
    "build resources": {"build": {"resources": {"limits": {"memory": "4Gi", "cpu": 2}}}},
    "worker": {"ports": []},
    "two ports": {"ports": [{"name": "http", "port": 8080}, {"name": "grpc", "port": 9090}]},
    "service ports apart": {
        "ports": [
            {"name": "http", "port": 8080, "servicePort": 8000}, {"name": "b", "port": 80},
        ]
    },
    "env": {
        "env": [
            {"name": "A", "value": ""}, {"name": "B"},
            {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "D", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
        ],
        "envFrom": [{"prefix": "X_", "configMapRef": {"name": "c", "optional": True}}],
    },
    "probes": {
        "probes": {
            "startup": {"tcpSocket": {"port": "http"}, "failureThreshold": 30},
            "readiness": {"httpGet": {"path": "/ready", "port": 8080}},
            "liveness": {"exec": {"command": ["/app/checkout", "check"]}},
        }
    },
    "no readiness": {"probes": {"readiness": {}}},
    "quantities": {"resources": {"requests": {"cpu": "0.5", "memory": "1e6", "example.com/gpu": 1}, "limits": {"example.com/gpu": 1}}},
    "autoscaling": {
        "autoscaling": {
            "maxReplicas": 3,
            "metrics": [
                {"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 80}}}
            ],
            "behavior": {"scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}},
        }
    },
    "rollout in numbers": {"rollout": {"maxSurge": 2, "maxUnavailable": "50%"}},
    "a link as zone": {"timeZone": "US/Pacific"},
    "nobody's number": {"user": {"uid": 65534, "name": "svc"}},
    "suspended": {"suspend": True, "replicas": 0},
    "the longest of names": {"build": {"binary": "a" * 63}, "user": {"name": "u" * 32}},
    "quotes and more in an argument": {"args": ["-", "--x=$(Y)", "a\nb", "'\"\\", "{{7*7}}", "\t", "\x1b[2J"]},
    "all kinds of metrics": {
        "autoscaling": {
            "maxReplicas": 9,
            "metrics": [
                {"type": "ContainerResource", "containerResource": {"container": "app", "name": "memory", "target": {"type": "AverageValue", "averageValue": "100Mi"}}},
                {"type": "Pods", "pods": {"metric": {"name": "requests_per_second"}, "target": {"type": "AverageValue", "averageValue": 100}}},
                {"type": "Object", "object": {"describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "a"}, "metric": {"name": "a"}, "target": {"type": "Value", "value": "1k"}}},
                {"type": "External", "external": {"metric": {"name": "queue:depth", "selector": {"matchLabels": {"example.com/a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}, {"key": "e", "operator": "Exists"}]}}, "target": {"type": "AverageValue", "averageValue": "30"}}},
            ],
        }
    },
    "a field of the pod by label": {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app.kubernetes.io/name']"}}}]},
    "requests equal to limits": {"resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "1024Mi"}}},
    "a probe by number on a worker": {"ports": [], "probes": {"liveness": {"tcpSocket": {"port": 9000}}}},
    "names with dots": {"image": {"repository": IMAGE, "pushSecretRef": {"name": "a.b-c.d"}}},
    "a cache and a mounted toolchain": {"build": {"toolchain": "Mounted", "cache": {"claimName": "go-caches"}}},
    "a cache of its own": {"build": {"cache": {"size": "5Gi", "storageClassName": "fast"}}},
    "packages in an image's toolchain": {"build": {"toolchain": "Image", "packages": ["tzdata"]}},
    "two proxies": {"build": {"modules": {"proxy": "https://a.example.com|https://b.example.com/x,off"}}},
    "a module in a folder with dots": {"source": {"git": {"url": GIT, "directory": "a.b/.c/d-e"}}},
}  # fmt: skip
"""What both accept, by title."""

REFUSED = tuple(rows())
"""Every row, made once."""
OPERATOR_REFUSES = frozenset({"ForbiddenByPlatform", "CPURequestMissing"})
"""The closed list of what needs the platform's settings."""

EVERYTHING: Change = {
    "autoscaling": {"minReplicas": 2, "maxReplicas": 3},
    "build": {"cache": {"size": "1Gi"}},
}
"""With this every row of the table of children has its object."""
NOTHING: Change = {"ports": []}
"""With this no row that is ever deleted again has one."""

OTHERWISE: dict[str, Any] = {
    "source.git.url": "https://git.example.com/other.git",
    "source.git.revision": "stable",
    "source.git.directory": "service",
    "source.pollIntervalSeconds": 10,
    "build.package": "./cmd/a",
    "build.binary": "other",
    "build.builderImage": "golang:1.26-alpine3.23",
    "build.base": "Busybox",
    "build.baseImage": "alpine:3.23",
    "build.packages": ["git"],
    "build.packageMirror": "https://mirror.example.com",
    "build.files": [{"from": "a", "to": "/a"}],
    "build.tags": ["a"],
    "build.variables": [{"name": "main.a", "value": "b"}],
    "build.modules": {"proxy": "direct", "download": "BeforeSource"},
    "build.toolchain": "Image",
    "build.cache": {"size": "5Gi", "storageClassName": "fast"},
    "build.resources": {"limits": {"memory": "1Gi"}},
    "build.timeoutSeconds": 600,
    "build.history": {"succeeded": 9},
    "image.repository": "registry.example.com/other",
    "image.digest": "sha256:" + "1" * 64,
    "image.tag": "$(COMMIT)",
    "image.pushSecretRef": {"name": "push"},
    "image.pullSecretRefs": [{"name": "pull"}],
    "user": {"uid": 20000, "name": "other"},
    "timeZone": "Asia/Tokyo",
    "replicas": 2,
    "ports": [{"name": "web", "port": 9090}],
    "ports.servicePort": 8081,
    "args": ["a"],
    "env": [{"name": "A", "value": "b"}],
    "envFrom": [{"configMapRef": {"name": "a"}}],
    "resources": {"limits": {"memory": "512Mi"}},
    "go": {"memoryLimitPercent": 80},
    "probes": {"liveness": {"httpGet": {"path": "/a"}}},
    "autoscaling": {"maxReplicas": 3},
    "rollout.maxSurge": 1,
    "rollout.maxUnavailable": 1,
    "rollout.progressDeadlineSeconds": 60,
    "rollout.terminationGracePeriodSeconds": 40,
    "rollout.preStopSeconds": 1,
    "disruption": {"maxUnavailable": 2},
    "suspend": True,
}
"""Another value of every field, or of a group whose fields all do the same."""

NEEDED: dict[str, dict[str, Any]] = {
    "build.baseImage": {"build": {"base": "Alpine"}},
    "build.packageMirror": {"build": {"packages": ["tzdata"]}},
    "ports.servicePort": {"ports": [{"name": "http", "port": 8080}]},
}
"""What must be there before a field may be set."""
