"""What happens to a service in a recorded life: every life has the same beginning and one chapter.

Some have them all. Kept until the next release, then it goes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from goservice.manifest import Manifest
from tests.support.recorded_hands import (
    GROUP,
    SERVICE,
    STOPS,
    an_hour_passes,
    answers,
    asks,
    autoscaler_says,
    build_fails,
    build_is_lost,
    build_runs,
    build_succeeds,
    commits,
    edits,
    job_ends,
    passes,
    pod_is,
    pod_of,
    rollout_sticks,
    rolls_out,
    running_jobs,
    sets,
    submits,
)

if TYPE_CHECKING:
    from tests.support.recorded_lives import Life

Chapter = Callable[["Life"], Awaitable[None]]


# --- the beginning that all have -----------------------------------------------------------------


async def begins(life: Life) -> None:
    """From the first sight of the resource to a service that serves."""
    submits(life)
    await life.settle("first sight: nothing is known of the source")
    commits(life)
    await life.settle("the commit is known")
    await succeeds(life, "the first build")


async def succeeds(life: Life, which: str) -> None:
    """A build succeeds and rolls out."""
    build_succeeds(life)
    await life.settle(f"{which} succeeds")
    rolls_out(life)
    await life.settle("the Deployment has rolled out")


async def builds_anew(life: Life) -> None:
    """A new commit is built and serves."""
    commits(life)
    await life.settle("a new commit")
    build_runs(life)
    await life.settle("its build runs")
    await succeeds(life, "its build")


# --- the chapters --------------------------------------------------------------------------------


async def a_build_fails(life: Life) -> None:
    """A new commit fails in one of the ways, and a rebuild of it succeeds."""
    commits(life)
    await life.settle("a commit that does not build")
    build_fails(life, life.number)
    await life.settle("its build fails")
    asks(life, "rebuild", f"again {life.number}")
    await life.settle("a rebuild is requested")
    answers(life)
    await life.settle("git is asked again")
    await succeeds(life, "the rebuild")


async def the_program_does_not_compile(life: Life) -> None:
    """A compile error; the next commit mends it."""
    commits(life)
    await life.settle("a commit that does not compile")
    build_fails(life)
    await life.settle("the compiler says why")
    await builds_anew(life)


async def a_restart_is_requested(life: Life) -> None:
    """Restarts, one after the other; taking the annotation away restarts nothing."""
    for when in ("2026-11-24T13:00:00Z", "now " * 30):
        asks(life, "restart", when)
        await life.settle("a restart is requested")
        rolls_out(life)
        await life.settle("the pods are new")
    life.world.edit(
        "GoService",
        *life.key,
        lambda live: live["metadata"]["annotations"].pop(f"{GROUP}/restart-requested-at"),
        manager="user",
    )
    await life.settle("the annotation is taken away")


async def autoscaling_is_toggled(life: Life) -> None:
    """Autoscaling comes, finds its way, and goes; or the other way round."""
    before = life.body["spec"].get("autoscaling")
    scaling = {"minReplicas": 2, "maxReplicas": 5, "targetCPUUtilizationPercentage": 70}
    sets(life, autoscaling=None if before else scaling)
    await life.settle("autoscaling is toggled")
    rolls_out(life)
    autoscaler_says(life, "False", 0)
    await life.settle("the autoscaler has no metrics")
    autoscaler_says(life, "True", 4)
    await life.settle("the autoscaler wants four")
    rolls_out(life)
    await life.settle("there are four")
    sets(life, autoscaling=before)
    await life.settle("autoscaling is toggled back")
    autoscaler_says(life, "True", 3)
    rolls_out(life)
    await life.settle("that is settled too")


async def the_service_is_suspended(life: Life) -> None:
    """While it is suspended there are a commit and a request; then it is resumed."""
    sets(life, suspend=True)
    await life.settle("suspended")
    commits(life)
    asks(life, "rebuild", "while suspended")
    await life.settle("a commit and a request while suspended")
    sets(life, suspend=False)
    await life.settle("resumed")
    answers(life)
    await life.settle("git is asked again")
    await succeeds(life, "the build")


async def a_build_ends_while_suspended(life: Life) -> None:
    """A build that runs ends and is recorded; nothing is done with it until it is resumed."""
    commits(life)
    await life.settle("a commit")
    sets(life, suspend=True)
    await life.settle("suspended")
    build_succeeds(life)
    await life.settle("the build succeeds while suspended")
    sets(life, suspend=None)
    await life.settle("resumed")
    rolls_out(life)
    await life.settle("rolled out")


async def an_image_is_pinned(life: Life) -> None:
    """A digest is served, and given up again."""
    before = life.body["spec"]["image"].get("digest")
    edits(life, lambda wanted: wanted["image"].update(digest="sha256:" + "c" * 64))
    await life.settle("a digest is pinned")
    rolls_out(life)
    await life.settle("it serves")
    commits(life)
    await life.settle("a commit meanwhile")
    edits(life, lambda wanted: wanted["image"].pop("digest"))
    if before:
        edits(life, lambda wanted: wanted["image"].update(digest=before))
    await life.settle("it is not pinned any more")
    await succeeds(life, "the newest commit's build")


async def the_status_is_lost(life: Life) -> None:
    """The status is wiped while the service serves, and while a build runs."""
    life.world.set_status("GoService", *life.key, {})
    await life.settle("the status is lost while it serves")
    commits(life)
    await life.settle("a commit")
    life.world.set_status("GoService", *life.key, {})
    await life.settle("the status is lost while a build runs")
    await succeeds(life, "the build")


async def the_operator_restarts(life: Life) -> None:
    """At rest, in a build, between a build's end and the rollout; git is not known each time."""
    for happens in (an_hour_passes, commits, build_succeeds, rolls_out):
        happens(life)
        life.git.heard = False
        life.restart()
        await life.settle("the operator restarts")
        answers(life)
        await life.settle("git answers")


async def old_builds_are_pruned(life: Life) -> None:
    """Little history is kept: Jobs and ConfigMaps beyond it go."""

    def change(wanted: Manifest) -> None:
        wanted.setdefault("build", {})["history"] = {"succeeded": 1, "failed": 1}

    edits(life, change)
    await life.settle("little history is kept")
    for number in range(4):
        commits(life)
        await life.settle("a commit")
        if number % 2:
            build_fails(life, number)
        else:
            build_succeeds(life)
        await life.settle("its build ends")
    rolls_out(life)
    await life.settle("rolled out")


async def the_platform_loses_builds(life: Life) -> None:
    """A build is tried five times, later each time, and then no more."""
    commits(life)
    await life.settle("a commit")
    for tries in range(5):
        build_is_lost(life, 3 if tries == 4 and life.number % 2 else life.number + tries % 3)
        await life.settle("the platform loses the build")
        passes(life, 20 if tries == 1 else 30 * 2**tries)
        await life.settle("time passes")
        passes(life, 60)
        await life.settle("more time passes")
    sets(life, args=["--mended"])
    await life.settle("the spec changes")
    await succeeds(life, "the build")


EVENTS: tuple[tuple[str, str], ...] = (
    ("FailedCreate", 'pods "a" is forbidden: violates PodSecurity "restricted:latest"'),
    ("FailedMount", 'MountVolume.SetUp failed for volume "push": secret "s" not found'),
    ("FailedCreate", "exceeded quota: compute, requested: pods=1"),
    ("Pulled", "Container image already present"),
)
WAITS: tuple[tuple[str, str], ...] = (
    ("ImagePullBackOff", "Back-off pulling image: not found " + "e" * 64),
    ("ErrImagePull", "429 Too Many Requests"),
    ("CreateContainerError", 'failed to mkdir ""'),
)


async def a_build_does_not_start(life: Life) -> None:
    """Events, the scheduler and the kubelet tell why, each in its words."""
    commits(life)
    await life.settle("a commit")
    reason, message = EVENTS[life.number % len(EVENTS)]
    for job in running_jobs(life):
        name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.1", "namespace": namespace},
            "involvedObject": {"uid": job["metadata"]["uid"]},
            "reason": reason,
            "message": message,
        }
        life.world.add(event, manager="controller")
    passes(life, 12)
    await life.settle("it has not begun for 15 s")
    for job in running_jobs(life):
        words = 'persistentvolumeclaim "go-caches" not found' if life.number % 2 else "no node fits"
        unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        pod_of(life, job, {"phase": "Pending", "conditions": [unscheduled | {"message": words}]})
    await life.settle("the scheduler says why")
    passes(life, 60)
    await life.settle("it has not begun for 60 s")
    why, words = WAITS[life.number % len(WAITS)]
    for job in running_jobs(life):
        image = job["spec"]["template"]["spec"]["initContainers"][1]
        waiting = {"state": {"waiting": {"reason": why, "message": words}}}
        status = {"name": image["name"], "image": image["image"], **waiting}
        pod_of(life, job, {"phase": "Pending", "initContainerStatuses": [status]})
    await life.settle("the kubelet says why")
    commits(life)
    await life.settle("a newer commit waits for it")
    await succeeds(life, "the older build")
    await succeeds(life, "the newer build")


async def a_rollout_sticks(life: Life) -> None:
    """Pods do not come up; the deadline passes; the namespace refuses; then all is well."""
    sets(life, args=["--stuck"])
    await life.settle("the pods change")
    rollout_sticks(life, "ReplicaSetUpdated")
    await life.settle("it begins")
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    last = {"lastState": {"terminated": {"exitCode": 3}}}
    pod_is(life, {"containerStatuses": [{"name": "app", "state": waiting, **last}]})
    passes(life, 20)
    await life.settle("it stands still")
    ready = {"name": "app", "state": {"running": {}}, "ready": False}
    pod_is(life, {"containerStatuses": [ready]})
    rollout_sticks(life, "ProgressDeadlineExceeded")
    await life.settle("the deadline has passed")
    rollout_sticks(life, "ReplicaSetUpdated", message='violates PodSecurity "restricted"')
    await life.settle("the namespace refuses the pods")
    rollout_sticks(life, "ReplicaSetUpdated", message="exceeded quota")
    passes(life, 20)
    await life.settle("there is no quota")
    rolls_out(life)
    await life.settle("all is well")


async def the_platform_changes(life: Life) -> None:
    """The settings change with a restart: images, proxies, and what pods get by default."""
    before = life.settings
    images = before["images"] | {"builder": "golang:1.28-alpine3.25", "operator": "op:0.2.0"}
    life.settings = before | {"images": images}
    life.restart()
    await life.settle("there is a new builder")
    await succeeds(life, "the build")
    resources = {"requests": {"cpu": "150m"}, "limits": {"memory": "192Mi"}}
    life.settings = before | {"services": {"resources": resources, "tmpSizeLimit": "32Mi"}}
    life.restart()
    await life.settle("pods get other resources, and the builder is the old one")
    await succeeds(life, "the build")


async def a_name_is_taken(life: Life) -> None:
    """Objects of somebody else stand where the service's would; then they go."""
    namespace, name = life.key
    life.world.remove("GoService", *life.key)
    await life.settle("the service is deleted")
    for kind in ("ServiceAccount", "Service"):
        metadata = {"name": name, "namespace": namespace}
        life.world.add({"apiVersion": "v1", "kind": kind, "metadata": metadata})
    submits(life)
    await life.settle("it is made anew beside foreign objects")
    await succeeds(life, "its build")
    for kind in ("ServiceAccount", "Service"):
        life.world.remove(kind, namespace, name)
    passes(life, 61)
    await life.settle("they are gone")
    rolls_out(life)
    await life.settle("rolled out")


async def the_server_refuses(life: Life) -> None:
    """A policy refuses an object; then it does not any more."""
    kinds = ("Deployment", "Job", "Service", "PersistentVolumeClaim", "ServiceAccount")
    life.refuse(kinds[life.number % len(kinds)])
    sets(life, args=["--refused"], timeZone="Asia/Tokyo")
    commits(life)
    await life.settle("a policy is against it")
    build_succeeds(life)
    await life.settle("the build succeeds")
    passes(life, 61)
    await life.settle("it is tried again")
    life.refuse("")
    passes(life, 61)
    await life.settle("the policy is gone")
    await succeeds(life, "the build")


async def the_spec_is_wrong(life: Life) -> None:
    """A spec that no schema would let through, and back."""
    before = life.body["spec"].get("replicas")
    sets(life, replicas="many", typo=1)
    await life.settle("the spec cannot be parsed")
    commits(life)
    await life.settle("a commit meanwhile")
    sets(life, replicas=before, typo=None)
    await life.settle("the spec is right again")
    await succeeds(life, "the build")


async def others_meddle(life: Life) -> None:
    """Children are changed and deleted by others; a finalizer holds one."""
    namespace, name = life.key
    for kind in ("Deployment", "Service", "ServiceAccount", "PodDisruptionBudget"):
        if life.world.find(kind, namespace, name) is None:
            continue
        life.world.edit(
            kind,
            namespace,
            name,
            lambda live: live["metadata"]["labels"].update({"app.kubernetes.io/name": "other"}),
        )
        await life.settle(f"{kind}: a label is changed")
        life.world.remove(kind, namespace, name)
        await life.settle(f"{kind}: deleted")
    rolls_out(life)
    await life.settle("rolled out")
    for job in life.world.all("Job"):
        life.world.remove("Job", job["metadata"]["namespace"], job["metadata"]["name"])
    await life.settle("all Jobs are deleted")


async def git_does_not_answer(life: Life) -> None:
    """Git fails while a commit is known, and with a new operator that knows none."""
    life.git_fails("no answer")
    await life.settle("git does not answer")
    life.git_fails("no revision")
    await life.settle("the revision is gone")
    life.git_fails("credentials")
    await life.settle("git asks for credentials")
    life.git.sha = ""
    life.restart()
    await life.settle("a new operator has never had an answer")
    edits(life, lambda wanted: wanted.setdefault("build", {}).update(tags=["changed"]))
    await life.settle("the spec changes meanwhile")
    life.git_fails("address" if life.number % 2 else "no answer")
    await life.settle("git fails otherwise")
    commits(life)
    await life.settle("git answers")
    await succeeds(life, "the build")


async def others_build(life: Life) -> None:
    """The platform builds one at a time, and a neighbour's build runs."""
    before = life.settings
    life.settings = before | {"builds": before["builds"] | {"maxConcurrent": 1}}
    life.restart()
    namespace = life.key[0]
    labels = {"app.kubernetes.io/managed-by": "goservice-operator", SERVICE: "neighbour"}
    metadata = {"name": "neighbour-build", "namespace": namespace, "labels": labels}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {}}
    life.world.add(job, manager="neighbour")
    commits(life)
    await life.settle("a commit while a neighbour builds")
    commits(life)
    await life.settle("a newer one")
    job_ends(life, job, "Complete")
    await life.settle("the neighbour's build ends")
    await succeeds(life, "the build")
    life.world.remove("Job", namespace, "neighbour-build")


async def a_pod_is_told_of_late(life: Life) -> None:
    """A Job's end is seen before its pod's: the pods are asked for."""
    commits(life)
    await life.settle("a commit")
    life.deaf.add("Pod")
    if life.number % 3:
        build_succeeds(life)
    else:
        build_fails(life, life.number % STOPS)
    await life.settle("the Job is over")
    life.listens()
    await life.settle("the pod is told of")
    rolls_out(life)
    await life.settle("rolled out")


CHAPTERS: tuple[Chapter, ...] = (
    a_build_fails,
    the_program_does_not_compile,
    a_restart_is_requested,
    autoscaling_is_toggled,
    the_service_is_suspended,
    a_build_ends_while_suspended,
    an_image_is_pinned,
    the_status_is_lost,
    the_operator_restarts,
    old_builds_are_pruned,
    the_platform_loses_builds,
    a_build_does_not_start,
    a_rollout_sticks,
    the_platform_changes,
    the_server_refuses,
    the_spec_is_wrong,
    others_meddle,
    git_does_not_answer,
    others_build,
    a_pod_is_told_of_late,
    a_name_is_taken,
)
"""In the order of a whole life: the last one makes the service anew."""


async def story(life: Life, *, whole: bool) -> None:
    """The beginning, and one chapter or all; at the end the service is deleted."""
    await begins(life)
    if whole:
        for chapter in CHAPTERS:
            await chapter(life)
    else:
        await CHAPTERS[life.number % len(CHAPTERS)](life)
    life.world.remove("GoService", *life.key)
    await life.settle("the service is deleted")


# --- worlds to be left, and taken over -----------------------------------------------------------


async def settling(life: Life) -> None:
    """A life that stops at the points where its world is kept."""
    await begins(life)
    life.keep("it serves")
    scaling = {"minReplicas": 2, "maxReplicas": 5, "targetCPUUtilizationPercentage": 70}
    sets(life, autoscaling=scaling)
    await life.settle("autoscaling")
    rolls_out(life)
    autoscaler_says(life, "True", 4)
    await life.settle("the autoscaler wants four")
    rolls_out(life)
    await life.settle("there are four")
    life.keep("the autoscaler has spoken")
    commits(life)
    await life.settle("a commit")
    build_fails(life, life.number % STOPS)
    await life.settle("its build fails")
    life.keep("a build has failed")
    sets(life, suspend=True)
    await life.settle("suspended")
    life.keep("it is suspended")
    sets(life, suspend=None)
    edits(life, lambda wanted: wanted["image"].update(digest="sha256:" + "c" * 64))
    await life.settle("a digest is pinned")
    rolls_out(life)
    await life.settle("it serves")
    life.keep("a digest is pinned")


async def resuming(life: Life) -> None:
    """A new operator takes over: before git answers, after it did, and later."""
    await life.settle("nothing is known of the source")
    answers(life)
    await life.settle("git answers")
    passes(life, 3600)
    await life.settle("an hour later")
