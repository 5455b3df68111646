"""What is wrong with a service's pods, told with the field to change; and Ready after the rollout."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from goservice.api.conditions import Type
from goservice.decide import pod_words
from goservice.manifest import find_condition
from tests.support import factories as f
from tests.support.lab import KEY, Lab


def pod(name: str = "checkout-1", **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name}, "status": status}


def container(**state: Any) -> dict[str, Any]:
    return {"name": "app", "image": "registry.example.com/a@sha256:0", **state}


def ended(**terminated: Any) -> dict[str, Any]:
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting"}}
    return container(state=waiting, lastState={"terminated": terminated}, restartCount=3)


def waits(reason: str, message: str = "") -> dict[str, Any]:
    return container(state={"waiting": {"reason": reason, "message": message}})


TOLD: dict[str, tuple[dict[str, Any], str]] = {
    "killed for memory": (
        ended(exitCode=137, reason="OOMKilled"),
        "was killed for memory: raise resources.limits.memory.",
    ),
    "a panic": (
        ended(
            exitCode=2,
            message="2026/11/26 10:00:01 up\npanic: cannot reach the database\n\ngoroutine 1",
        ),
        "ends with exit code 2: panic: cannot reach the database",
    ),
    "a last line with its time": (
        ended(
            exitCode=7, message="2026/11/26 10:00:01 the database db.example.com does not answer"
        ),
        "exit code 7: the database db.example.com does not answer",
    ),
    "no word": (ended(exitCode=3), "ends with exit code 3."),
    "another architecture": (
        ended(exitCode=128, reason="StartError", message='exec "/app/a": exec format error'),
        "made for another architecture",
    ),
    "the end without an error": (
        container(state={"terminated": {"exitCode": 0}}),
        "a service must go on running",
    ),
    "an image that is gone": (waits("ImagePullBackOff", "… not found"), "does not have it"),
    "an image behind a login": (
        waits("ErrImagePull", "pull access denied"),
        "set image.pullSecretRefs",
    ),
    "a registry that is away": (
        waits("ErrImagePull", "dial tcp: lookup r: no such host"),
        "does not answer the node",
    ),
    "a Secret that is missing": (
        waits("CreateContainerConfigError", 'secret "db" not found'),
        'secret "db" not found. Look at env',
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_a_containers_trouble_names_what_to_change(name: str) -> None:
    found, words = TOLD[name]
    seen = pod_words.look([pod(containerStatuses=[found])])
    assert words in seen.words
    assert "back-off" not in seen.words


def test_an_eviction_for_tmp_names_the_setting() -> None:
    message = 'Usage of EmptyDir volume "tmp" exceeds the limit "64Mi". '
    seen = pod_words.look([pod(phase="Failed", reason="Evicted", message=message)])
    assert "services.tmpSizeLimit" in seen.words
    other = pod_words.look([pod(phase="Failed", reason="Evicted", message="low on memory")])
    assert "was evicted: low on memory." in other.words


def test_a_pod_that_no_node_takes() -> None:
    condition = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes: cpu."}
    seen = pod_words.look([pod(conditions=[condition])])
    assert "Lower resources.requests" in seen.words


def test_the_trouble_of_most_is_told_once() -> None:
    crash = ended(exitCode=3)
    pods = [pod(f"p-{n}", containerStatuses=[crash]) for n in range(3)]
    pods.append(pod("p-9", conditions=[{"type": "PodScheduled", "status": "False"}]))
    gone = {**pod("p-0", containerStatuses=[crash])}
    gone["metadata"] = {**gone["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert pod_words.look([gone, *pods]).words.startswith("Pod p-0 and 2 more: CrashLoopBackOff")
    assert pod_words.look([pod(phase="Succeeded")]).words == ""


PROBES = {
    "Readiness probe failed: dial tcp 10.1.2.3:8080: connect: connection refused": (
        "nothing listens on port 8080: the program must listen on $PORT"
    ),
    "Readiness probe failed: HTTP probe failed with statuscode: 503": (
        "gets HTTP status 503: mend what it asks, or probes.readiness"
    ),
    'Startup probe failed: Get "http://10.1.2.3:8080/": context deadline exceeded': (
        "raise probes.startup.timeoutSeconds"
    ),
    "Readiness probe failed: service unhealthy (responded with NOT_SERVING)": "NOT_SERVING",
    "Pulled image": "",
}


@pytest.mark.parametrize("message", PROBES)
def test_a_failing_probe_names_its_field(message: str) -> None:
    told = pod_words.from_probe(["Started container", message], 8080)
    assert PROBES[message] in told
    assert "10.1.2.3" not in told


def deployment_status(lab: Lab, available: int, of: int, *, since: str = "") -> None:
    live = lab.world.find("Deployment", *KEY)
    assert live is not None
    generation = live["metadata"]["generation"]
    shown = f.settled(live, replicas=of, generation=generation)["status"]
    shown |= {"availableReplicas": available, "readyReplicas": available}
    enough = "True" if available >= of else "False"
    shown["conditions"][0] |= {"status": enough, "lastTransitionTime": since or f.stamp(lab.now)}
    lab.world.set_status("Deployment", *KEY, shown)


async def serving(**changes: Any) -> Lab:
    lab = Lab()
    lab.submit(**changes)
    await lab.serve()
    assert lab.ready() == ("True", "Serving")
    return lab


async def test_a_crash_after_the_rollout_is_an_outage_and_heals_by_itself() -> None:
    lab = await serving()
    lab.now += timedelta(days=1)
    labels = {"goservice.dev/service": "checkout", "app.kubernetes.io/component": "app"}
    crashed = pod(containerStatuses=[ended(exitCode=3, message="broken")])
    crashed |= {"apiVersion": "v1", "kind": "Pod"}
    crashed["metadata"] |= {"namespace": "shop", "labels": labels}
    lab.world.add(crashed)
    lab.world.set_status("Pod", "shop", "checkout-1", crashed["status"])
    deployment_status(lab, 0, 1)
    await lab.settle()
    assert lab.ready() == ("True", "Serving"), "not yet"
    lab.now += timedelta(seconds=31)
    await lab.settle()
    assert lab.ready() == ("False", "PodsFailing")
    assert "exit code 3: broken" in lab.message()
    assert find_condition(lab.status(), Type.STALLED)["status"] == "True"
    before = len(lab.world.writes)
    for _ in range(12):
        lab.now += timedelta(minutes=5)
        await lab.settle()
    assert lab.world.writes[before:] == [], "said once"
    deployment_status(lab, 1, 1)
    await lab.settle()
    assert lab.ready() == ("True", "Serving")


async def test_a_scale_up_and_a_drain_are_no_rollout() -> None:
    lab = await serving(autoscaling={"maxReplicas": 9, "targetCPUUtilizationPercentage": 50})
    lab.now += timedelta(days=1)
    lab.world.edit("Deployment", *KEY, lambda live: live["spec"].update(replicas=5), "hpa")
    before = lab.world.writes.count(("apply_status", "GoService", "checkout"))
    deployment_status(lab, 2, 5)
    await lab.settle()
    assert lab.ready() == ("True", "Serving")
    lab.now += timedelta(seconds=20)
    deployment_status(lab, 5, 5)
    await lab.settle()
    assert lab.ready() == ("True", "Serving")
    after = lab.world.writes.count(("apply_status", "GoService", "checkout"))
    assert after - before <= 1, "the counts, once they are reached"
    deployment_status(lab, 4, 5)
    lab.now += timedelta(minutes=2)
    await lab.settle()
    await lab.settle()  # the first pass only asks what the pods say
    assert lab.ready() == ("True", "Serving")
    assert find_condition(lab.status(), Type.AVAILABLE)["status"] == "False"


async def test_a_new_number_that_the_controller_has_not_seen_is_no_rollout() -> None:
    lab = await serving()
    lab.world.edit("GoService", *KEY, lambda live: live["spec"].update(replicas=4))
    await lab.settle()
    live = lab.world.find("Deployment", *KEY)
    assert live is not None
    assert live["spec"]["replicas"] == 4
    assert live["status"]["observedGeneration"] < live["metadata"]["generation"]
    assert lab.ready() == ("True", "Serving")
    lab.world.edit("GoService", *KEY, lambda live: live["spec"].update(args=["new"]))
    await lab.settle()
    assert lab.ready() == ("Unknown", "RollingOut"), "a new template is one"


async def test_a_paused_deployment_names_the_command() -> None:
    lab = await serving()
    lab.world.edit("Deployment", *KEY, lambda live: live["spec"].update(paused=True))
    lab.git.sha = f.NEWER
    lab.now += timedelta(hours=1)
    await lab.settle()
    lab.finish_build(f.OTHER_DIGEST)
    await lab.settle()
    live = lab.world.find("Deployment", *KEY)
    assert live is not None
    shown = f.settled(live, generation=live["metadata"]["generation"])["status"]
    shown["updatedReplicas"] = 0
    lab.world.set_status("Deployment", *KEY, shown)
    await lab.settle()
    assert lab.ready() == ("False", "Paused")
    assert "kubectl rollout resume deployment/checkout -n shop" in lab.message()


async def test_suspended_from_birth_waits_for_nothing() -> None:
    lab = Lab()
    lab.submit(suspend=True)
    await lab.settle()
    status = lab.status()
    assert status["observedGeneration"] == 1
    assert not find_condition(status, Type.READY)
    assert find_condition(status, Type.SUSPENDED)["status"] == "True"


async def test_what_cannot_be_parsed_keeps_its_history() -> None:
    lab = await serving()
    before = lab.status()
    lab.world.edit(
        "GoService", *KEY, lambda live: live["spec"]["image"].update(repository="Not An Image")
    )
    await lab.settle()
    assert lab.ready() == ("False", "InvalidSpec")
    for field in ("history", "commit", "servingImage", "latestImage", "build"):
        assert lab.status()[field] == before[field]
