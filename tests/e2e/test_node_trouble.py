"""What goes wrong on a real node: each failure by its name, with what to do, and what still serves.

The services of the table are submitted at once with a cap of two builds: the cap is shown too.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from testbed.node import commands, kubectl, localnode, paths, repositories
from testbed.node.localnode import Service

pytestmark = [pytest.mark.e2e, pytest.mark.node]

MODULE = "module example.com/tiny\n\ngo 1.25\n"
LARGE = (
    'package main\n\nimport "time"\n\nvar table = [400 << 20]byte{400<<20 - 1: 1}\n\n'
    "func main() { time.Sleep(time.Duration(table[time.Now().Unix()])) }\n"
)
"""Asks the compiler for far more memory than the limit of its case."""


@dataclass(frozen=True)
class Case:
    """A change of a service that serves: it gives no image. What the status must say."""

    name: str
    says: str
    """Ready's status and reason."""
    words: tuple[str, ...]
    """Words of Ready's message."""
    files: Mapping[str, str | Path] = field(default_factory=localnode.tiny)
    tail: str = ""
    """A word of the log tail; empty where no container failed."""
    git: dict[str, str] = field(default_factory=dict)
    image: dict[str, Any] = field(default_factory=dict)
    build: dict[str, Any] = field(default_factory=dict)


NOBODY = f"{paths.BRIDGE_ADDRESS}:5999"
SILENT = (paths.HOST_ADDRESS, 5998)
"""Takes every connection and never says a word: see `silent`."""
UNKNOWN_MODULE = {
    "go.mod": f"{MODULE}\nrequire example.com/none v1.0.0\n",
    "go.sum": "".join(
        f"example.com/none v1.0.0{part} h1:{'A' * 43}=\n" for part in ("", "/go.mod")
    ),
    "main.go": 'package main\n\nimport _ "example.com/none"\n\nfunc main() {}\n',
}
WORKSPACE_PROGRAM = localnode.TINY_PROGRAM.replace(
    'import "time"', 'import (\n\t"time"\n\n\t"example.com/none/words"\n)'
).replace("{ time", "{ println(words.Hello); time")
SLOW = 60
"""Seconds that a busy machine may be late."""
KUBELET_TRIES_AGAIN = 120
"""Seconds from one try to mount a Secret to the next one, at the most."""
CASES = (
    Case(
        "compile",
        "False CompileFailed",
        ("does not compile", "kubectl logs"),
        localnode.tiny(program='package main\n\nfunc main() { undefined("x") }\n'),
        tail="undefined: undefined",
    ),
    Case(
        "too-old",
        "False GoVersionTooOld",
        ("go.mod asks for Go 1.99", "build.builderImage"),
        localnode.tiny(go="1.99"),
        tail="1.99",
    ),
    Case("no-module", "False NoGoMod", ("go.mod",), {"main.go": localnode.TINY_PROGRAM}),
    Case(
        "no-main",
        "False NoMainPackage",
        ("build.package",),
        {"go.mod": MODULE, "lib.go": "package lib\n"},
    ),
    Case(
        "constrained-main",
        "False NoMainPackage",
        ("build.package",),
        {
            "go.mod": MODULE,
            "lib.go": "package tiny\n",
            "magefile.go": "//go:build mage\n\n" + localnode.TINY_PROGRAM,
        },
    ),
    Case(
        "many-mains",
        "False NoMainPackage",
        ("build.package", "./cmd/a", "./cmd/b"),
        {
            "go.mod": MODULE,
            "cmd/a/main.go": localnode.TINY_PROGRAM,
            "cmd/b/main.go": localnode.TINY_PROGRAM,
        },
    ),
    Case(
        "large-file",
        "False UnsafeSource",
        ("logo.png lies in Git LFS",),
        {
            "go.mod": MODULE,
            "main.go": 'package main\n\nimport _ "embed"\n\n//go:embed logo.png\nvar logo []byte\n\nfunc main() {}\n',
            "logo.png": f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 4096\n",
        },
    ),
    Case(
        "cgo",
        "False CompileFailed",
        ("needs cgo, which builds do not have: main.go imports C",),
        localnode.tiny(program='package main\n\nimport "C"\n\nfunc main() {}\n'),
    ),
    Case(
        "merge-marks",
        "False ModuleDownloadFailed",
        ("go.mod:3", "<<<<<<<"),
        {"go.mod": "module a\n\n<<<<<<< HEAD\ngo 1.25\n", "main.go": localnode.TINY_PROGRAM},
    ),
    Case(
        "unsafe",
        "False UnsafeSource",
        ("The link secrets points outside the repository, to /var/run/secrets",),
        {**localnode.tiny(), "secrets": Path("/var/run/secrets")},
    ),
    Case(
        "module",
        "False ModuleDownloadFailed",
        ("build.modules.proxy",),
        UNKNOWN_MODULE,
        tail="example.com/none",
    ),
    Case(
        "base-image",
        "False BaseImageNotFound",
        ("cannot be pulled", "build.baseImage"),
        build={"base": "Custom", "baseImage": f"{paths.REGISTRY}/nobody/base:1"},
        tail="nobody/base",
    ),
    Case(
        "builder-unpacked",
        "False BaseImageNotFound",
        ("cannot be pulled", "build.builderImage"),
        build={"builderImage": f"{paths.REGISTRY}/nobody/golang:1"},
        tail="nobody/golang",
    ),
    Case(
        "builder-mounted",
        "False BaseImageNotFound",
        ("The node cannot pull", "nobody/golang:1.27", "build.builderImage"),
        build={"builderImage": f"{paths.REGISTRY}/nobody/golang:1.27"},
    ),
    Case(
        "out-of-memory",
        "False OutOfMemory",
        ("build.resources.limits.memory",),
        localnode.tiny(program=LARGE),
        build={"resources": {"limits": {"memory": "512Mi"}, "requests": {"memory": "512Mi"}}},
    ),
    Case(
        "push-denied",
        "False PushDenied",
        ("image.pushSecretRef", "kubectl logs"),
        image={"pushSecretRef": {"name": "wrong"}},
        tail="authentication required",
    ),
    Case(
        "registry-away",
        "Unknown RegistryUnavailable",
        ("of 5 failed (RegistryUnavailable)", "the next one starts at"),
        image={"repository": f"{NOBODY}/shop/registry-away", "pushSecretRef": None},
        tail="connection refused",
    ),
    Case(
        "full-disk",
        "Unknown DiskFull",
        ("evicted for its disk use", "of 5 failed (DiskFull)"),
        # The builder image is unpacked, then the build waits for its module until the kubelet looks.
        UNKNOWN_MODULE,
        build={
            "toolchain": "Image",
            "modules": {"proxy": "http://{}:{}".format(*SILENT)},
            "resources": {
                "limits": {"ephemeral-storage": "20Mi"},
                "requests": {"ephemeral-storage": "20Mi"},
            },
        },
    ),
    Case(
        "too-slow",
        "False DeadlineExceeded",
        ("build.timeoutSeconds",),
        UNKNOWN_MODULE,
        build={"timeoutSeconds": 60, "modules": {"proxy": "http://{}:{}".format(*SILENT)}},
    ),
    Case("revision", "False RevisionNotFound", ("nowhere",), git={"revision": "nowhere"}),
    Case(
        "closed-git",
        "False GitAuthenticationFailed",
        ("credentials",),
        git={"url": repositories.url("closed-git", "auth")},
    ),
    Case(
        "long-names",
        "False UnsafeSource",
        ("SHA-256 names", "SHA-1"),
        git={"url": repositories.url("long-names-of-objects")},
    ),
    Case(
        "redirected",
        "False UnsafeSource",
        ("redirects to", "not followed", "spec.source.git.url"),
        git={"url": repositories.url("redirected", "moved")},
    ),
    Case(
        "git-away",
        "Unknown GitUnavailable",
        (NOBODY, "does not accept a connection"),
        git={"url": f"http://{NOBODY}/shop/git-away.git"},
    ),
)
BY_NAME = {case.name: case for case in CASES}


@pytest.fixture(scope="module")
def silent() -> Iterator[None]:
    """A module proxy that keeps a build waiting: the kernel accepts, and nobody reads."""
    with socket.create_server(SILENT):
        yield


@pytest.fixture(scope="module")
def failing(shop: str, checkout: Service, silent: None) -> dict[str, Service]:
    """All services of the table, which serve; then their changes, submitted at once.

    They stay to the end: what they left is searched for the push Secret.
    """
    checkout.wait_for("True Serving")
    localnode.push_secret(shop, "wrong", "not-the-password")
    repositories.create("long-names-of-objects", "sha256")
    services = {case.name: localnode.serving(case.name, shop) for case in CASES}
    for service in services.values():
        service.wait_for("True Serving")
    for case in CASES:
        localnode.push(case.name, case.files, f"Case {case.name}")
        git = {"url": repositories.url(case.name), **case.git}
        build: dict[str, Any] = {"build": case.build} if case.build else {}
        localnode.submit(
            case.name,
            shop,
            source={"git": git, "pollIntervalSeconds": 3},
            image={**localnode.closed(shop, case.name), **case.image},
            resources=localnode.LEAN,
            **build,
        )
    return services


@pytest.mark.parametrize("name", BY_NAME)
def test_a_failure_says_its_name_and_what_to_do_and_what_served_serves_on(
    failing: dict[str, Service], name: str
) -> None:
    case, service = BY_NAME[name], failing[name]
    service.wait_until(
        f"{name} says {case.says!r}",
        lambda _: service.says() == case.says,
        4 * localnode.BUILD_SECONDS,
    )
    status, message = service.status(), service.message()
    for word in case.words:
        assert word in message
    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    assert ("Stalled" in conditions) == case.says.startswith("False")
    assert ("Reconciling" in conditions) == case.says.startswith("Unknown")
    serves_on(service)
    if case.tail:
        assert case.tail in status["build"]["logTail"]
        assert status["build"]["phase"] == "Failed"
        assert case.tail in localnode.printed(status["build"]["logsCommand"])
    service.patch({"suspend": True})  # no more attempts, and its pods stay for the next test


def serves_on(service: Service) -> None:
    """Nothing of a failure reached what had served before it."""
    status = service.status()
    assert service.conditions()["Available"]["status"] == "True"
    assert service.image() == status["servingImage"] == Service("demo", "sample").image()
    assert service.ask()["uid"] == 10001


def test_no_more_builds_ran_at_once_than_the_platform_allows(failing: dict[str, Service]) -> None:
    """By the pods' own times, which the kubelet wrote."""
    ran = []
    for pod in kubectl.get("pods", "-A", "-l", "app.kubernetes.io/component=build")["items"]:
        every = pod["status"].get("initContainerStatuses", [])
        every = [*every, *pod["status"].get("containerStatuses", [])]
        ended = [c["state"]["terminated"] for c in every if "terminated" in c["state"]]
        ended = [e for e in ended if e.get("startedAt") and e.get("finishedAt")]
        if ended:
            start, end = min(e["startedAt"] for e in ended), max(e["finishedAt"] for e in ended)
            ran.append((start, end, pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
    at_once = [[one for one in ran if one[0] <= start < one[1]] for start, *_ in ran]
    most = max(at_once, key=len)
    assert len(most) == localnode.CAP, "\n".join(map(str, [*most, "all:", *sorted(ran)]))


def test_a_failed_build_a_killed_operator_and_a_rollout_cost_no_answer(checkout: Service) -> None:
    """A thousand probes a minute, all the while."""
    with localnode.Probes(checkout) as probes:
        _fails(checkout)
        localnode.restart_operator(kill=True)
        _is_mended(checkout)
        time.sleep(10)  # the pods of the old version end
    print(f"{probes.asked} probes, {probes.per_minute:.0f} a minute, {len(probes.failed)} failed")
    assert probes.failed == []
    assert probes.per_minute > 950


def _fails(checkout: Service) -> None:
    """A commit that does not compile: all of that is told, and nothing that serves is touched."""
    image = checkout.image()
    replica_sets = _replica_sets(checkout)
    localnode.push_sample("checkout", "Broken", **{"broken.go": "package main\n\nvar x int = y\n"})
    localnode.until(
        "the build fails", lambda: checkout.says() == "False CompileFailed", localnode.BUILD_SECONDS
    )
    status = checkout.status()
    assert {c["type"]: c["status"] for c in status["conditions"]}["Available"] == "True"
    assert "undefined: y" in status["build"]["logTail"]
    assert "undefined: y" in localnode.printed(status["build"]["logsCommand"])
    told = localnode.goservice("status", checkout.name, "-n", checkout.namespace, check=False)
    assert told.returncode == 1
    assert "undefined: y" in told.stdout
    assert checkout.image() == image == status["servingImage"]
    assert _replica_sets(checkout) == replica_sets
    assert checkout.ask()["uid"] == 10001


def _is_mended(checkout: Service) -> None:
    localnode.push_sample("checkout", "Mended")
    localnode.until(
        "mended",
        lambda: (
            checkout.says() == "True Serving"
            and checkout.status()["commit"].get("message") == "Mended"
        ),
        localnode.BUILD_SECONDS,
    )


def _replica_sets(service: Service) -> set[str]:
    found = kubectl.get(
        "replicasets", "-n", service.namespace, "-l", f"goservice.dev/service={service.name}"
    )
    return {item["metadata"]["name"] for item in found["items"]}


def test_a_bad_spec_changes_nothing_that_serves(checkout: Service) -> None:
    """What the schema refuses never arrives; what the platform refuses is said, and no more."""
    before = checkout.deployment()["spec"]
    generation = checkout.body()["metadata"]["generation"]
    with pytest.raises(commands.Failed, match=r"spec\.timeZone"):
        checkout.patch({"timeZone": "Mars/Olympus"})
    for place in ("/tmp/zones", "/var/run/config"):
        with pytest.raises(commands.Failed, match="must not be below"):
            checkout.patch({"build": {"files": [{"from": "go.mod", "to": place}]}})
    assert checkout.body()["metadata"]["generation"] == generation
    jobs = len(checkout.jobs())
    checkout.patch({"source": {"git": {"url": "http://169.254.169.254/latest/meta-data.git"}}})
    localnode.until(
        f"it is refused; it says {checkout.says()}: {checkout.message()}",
        lambda: checkout.says() == "False ForbiddenByPlatform",
        60,
    )
    assert "169.254.169.254" in checkout.message()
    assert checkout.deployment()["spec"] == before
    assert checkout.ask()["uid"] == 10001
    checkout.patch({"source": {"git": {"url": repositories.url("checkout")}}})
    checkout.wait_until("mended", lambda _: checkout.says() == "True Serving")
    assert checkout.deployment()["spec"] == before
    assert len(checkout.jobs()) == jobs, "what has been built is not built again"


def test_a_missing_push_secret_is_named_and_mended(shop: str) -> None:
    localnode.serving("late", shop).wait_for("True Serving")
    localnode.push_sample("late")
    image = {**localnode.closed(shop, "late"), "pushSecretRef": {"name": "late"}}
    service = localnode.submit("late", shop, "late", image=image, resources=localnode.LEAN)
    localnode.until("SecretNotFound", lambda: service.says() == "False SecretNotFound", 120)
    assert f"Secret {shop}/late (image.pushSecretRef) does not exist" in service.message()
    serves_on(service)
    localnode.push_secret(shop, "late")
    localnode.until(
        "it goes on by itself",
        lambda: service.says() == "True Serving",
        localnode.BUILD_SECONDS + KUBELET_TRIES_AGAIN,
    )
    assert service.status()["build"]["attempt"] == 1
    kubectl.kubectl("delete", "gsvc", "late", "-n", shop)


def test_a_push_secret_of_another_type_is_named_with_the_command_and_mended(shop: str) -> None:
    localnode.push("odd-secret", localnode.tiny())
    wrong = ("create", "secret", "generic", "odd", "-n", shop, "--from-literal=password=x")
    kubectl.kubectl(*wrong)
    image = {**localnode.closed(shop, "odd-secret"), "pushSecretRef": {"name": "odd"}}
    service = localnode.submit(
        "odd-secret", shop, "odd-secret", image=image, resources=localnode.LEAN, ports=[]
    )
    service.wait_until(
        "SecretNotFound", lambda _: service.says() == "False SecretNotFound", 60 + SLOW
    )
    assert (
        f"Secret {shop}/odd (image.pushSecretRef) has no key .dockerconfigjson" in service.message()
    )
    assert f"kubectl create secret docker-registry odd -n {shop} " in service.message()
    kubectl.kubectl("delete", "secret", "odd", "-n", shop)
    localnode.push_secret(shop, "odd")
    service.wait_until(
        "goes on by itself",
        lambda _: service.says() == "True Serving",
        localnode.BUILD_SECONDS + KUBELET_TRIES_AGAIN,
    )
    assert service.status()["build"]["attempt"] == 1
    kubectl.kubectl("delete", "gsvc", "odd-secret", "-n", shop)


def test_a_workspace_with_a_module_that_no_proxy_has_builds_from_a_branch_of_any_name(
    shop: str,
) -> None:
    localnode.push(
        "workspace",
        {
            "go.work": "go 1.25\n\nuse (\n\t.\n\t./words\n)\n",
            "go.mod": f"{MODULE}\nrequire example.com/none/words v0.0.0\n",
            "main.go": WORKSPACE_PROGRAM,
            "words/go.mod": "module example.com/none/words\n\ngo 1.25\n",
            "words/words.go": 'package words\n\nconst Hello = "hello"\n',
        },
        branch="fix/#42",
    )
    git = {"url": repositories.url("workspace"), "revision": "fix/#42"}
    service = localnode.submit(
        "workspace", shop, source={"git": git}, resources=localnode.LEAN, ports=[]
    )
    service.wait_for("True Serving")
    kubectl.kubectl("delete", "gsvc", "workspace", "-n", shop)


def test_a_build_that_never_starts_is_no_fault_of_the_build_and_tried_again(shop: str) -> None:
    localnode.serving("deadline", shop).wait_for("True Serving")
    localnode.push("deadline", localnode.tiny())
    image = {**localnode.closed(shop, "deadline"), "pushSecretRef": {"name": "never"}}
    service = localnode.submit(
        "deadline",
        shop,
        "deadline",
        image=image,
        build={"timeoutSeconds": 60},
        resources=localnode.LEAN,
    )
    # The kubelet looks at the deadline again when it has waited two minutes for the volume.
    localnode.until("NotStarted", lambda: service.says() == "Unknown NotStarted", 300)
    assert "Attempt 1 of 5 failed (NotStarted); the next one starts at" in service.message()
    serves_on(service)
    kubectl.kubectl("delete", "gsvc", "deadline", "-n", shop)


def test_a_namespace_that_refuses_the_pods_is_named_and_mended(checkout: Service) -> None:
    localnode.namespace("strict", "restricted")
    localnode.serving("strict", "strict").wait_for("True Serving")
    localnode.push_sample("strict")
    service = localnode.submit("strict", "strict", "strict", resources=localnode.LEAN)
    localnode.until(
        "PodSecurityViolation", lambda: service.says() == "False PodSecurityViolation", 60
    )
    assert "Pod Security level baseline" in service.message()
    command = service.message().partition("See: ")[2]
    assert "FailedCreate" in localnode.printed(command)
    serves_on(service)
    localnode.namespace("strict", "baseline")
    localnode.until(
        "it goes on by itself",
        lambda: service.says() == "True Serving",
        localnode.BUILD_SECONDS + 360,
    )


def test_a_build_pod_that_is_drained_away_is_built_again(shop: str) -> None:
    """As a node drain does it: the pod is deleted in mid-build."""
    localnode.push("drained", localnode.tiny())
    service = localnode.submit(
        "drained", shop, "drained", image=localnode.closed(shop, "drained"), ports=[]
    )
    pods = ("pods", "-n", shop, "-l", "goservice.dev/service=drained")

    def building() -> list[Any]:
        return [p for p in kubectl.get(*pods)["items"] if p["status"]["phase"] == "Pending"]

    pod = localnode.until("the build's pod", building, 120)[0]["metadata"]["name"]
    kubectl.kubectl("delete", "pod", pod, "-n", shop, "--grace-period=1")
    localnode.until("NodeLost", lambda: service.says() == "Unknown NodeLost", 60)
    assert "Attempt 1 of 5" in service.message()
    localnode.until(
        "the second attempt serves",
        lambda: service.says() == "True Serving",
        localnode.BUILD_SECONDS + 60,
    )
    assert service.status()["build"]["trigger"] == ["Retry"]
    assert service.status()["build"]["attempt"] == 2
    kubectl.kubectl("delete", "gsvc", "drained", "-n", shop)


def test_a_foreign_object_of_the_name_is_left_alone(shop: str) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "taken", "namespace": shop, "labels": {"mine": "yes"}},
        "spec": {"ports": [{"port": 1234}], "selector": {"app": "mine"}},
    }
    kubectl.kubectl("apply", "-f", "-", text=json.dumps(config))
    before = kubectl.get("service", "taken", "-n", shop)
    image = localnode.operator_pod()["spec"]["containers"][0]["image"]
    repository, _, digest = image.partition("@")
    service = localnode.submit("taken", shop, image={"repository": repository, "digest": digest})
    localnode.until("NotOwned", lambda: service.says() == "False NotOwned", 60)
    assert f"Service {shop}/taken exists" in service.message()
    assert localnode.printed(service.message().partition("look at it: ")[2])
    kubectl.kubectl("delete", "gsvc", "taken", "-n", shop)
    assert kubectl.get("service", "taken", "-n", shop) == before
    kubectl.kubectl("delete", "service", "taken", "-n", shop)
