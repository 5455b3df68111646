"""The cluster's own controllers, played on the virtual clock: builds end, pods come up."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from goservice import names
from goservice.manifest import Manifest
from goservice.objects.children import CHILD_KINDS
from testbed.inmemory.world import World
from tests.faults.virtual import VirtualLoop
from tests.support import factories

POD_AFTER, END_AFTER, STATUS_AFTER = 2.0, 40.0, 1.0
"""Virtual seconds from a Job's creation to its pod, to the pod's end, and to the Job's status."""
ROLL_OUT_AFTER = 5.0
"""Virtual seconds from a Deployment's new generation to its rollout."""
SCALE_AFTER = 10.0
"""Virtual seconds from an autoscaler's creation to what it wants."""


def digest(inputs: str) -> str:
    """The image that a build of these inputs pushes."""
    return "sha256:" + hashlib.sha256(inputs.encode()).hexdigest()


class Actors:
    """Job controller, kubelet, Deployment controller and autoscaler."""

    def __init__(self, loop: VirtualLoop, world: World, stamp: Callable[[], str]) -> None:
        self._loop = loop
        self._world = world
        self._stamp = stamp
        self.writer = ""
        """Who writes now, empty for the operator."""
        self.broken: set[str] = set()
        """Commits that do not compile."""
        self.scale_to = 0
        """How many pods the autoscaler wants, 0 if it has no opinion."""
        self.pushed: set[str] = set()
        """The digests of successful builds."""
        world.on_change(self._changed)

    @contextmanager
    def writing(self, who: str) -> Iterator[None]:
        """Whatever is written inside is not the operator's."""
        before, self.writer = self.writer, who
        try:
            yield
        finally:
            self.writer = before

    def catch_up(self) -> None:
        """Look at what is there already."""
        for kind in CHILD_KINDS:
            for manifest in self._world.all(kind):
                self._changed("ADDED", manifest)

    def _later(self, seconds: float, act: Callable[[Manifest], None], manifest: Manifest) -> None:
        """Act on an object as it is then, if it is still the same one."""
        kind, metadata = manifest["kind"], manifest["metadata"]

        def wake() -> None:
            live = self._world.find(kind, metadata["namespace"], metadata["name"])
            if live is not None and live["metadata"]["uid"] == metadata["uid"]:
                with self.writing("controller"):
                    act(live)

        self._loop.call_later(seconds, wake)

    def _changed(self, change: str, manifest: Manifest) -> None:
        match manifest["kind"], change:
            case "Job", "ADDED":
                if not manifest.get("status", {}).get("conditions"):
                    self._later(POD_AFTER, self._start_build, manifest)
            case "Deployment", "ADDED" | "MODIFIED":
                seen = manifest.get("status", {}).get("observedGeneration", 0)
                if seen < manifest["metadata"]["generation"]:
                    self._later(ROLL_OUT_AFTER, self._roll_out, manifest)
            case "HorizontalPodAutoscaler", "ADDED":
                if not manifest.get("status"):
                    self._later(SCALE_AFTER, self._scale, manifest)
            case _:
                pass  # no controller acts on the others

    def _start_build(self, job: Manifest) -> None:
        pod = factories.pod(job)
        metadata = pod["metadata"]
        del metadata["uid"], metadata["creationTimestamp"]
        metadata["namespace"] = job["metadata"]["namespace"]
        metadata["labels"] = job["metadata"]["labels"]
        self._world.add(pod)
        running = {"name": "fetch", "state": {"running": {}}}
        self._status("Pod", pod, {"phase": "Running", "initContainerStatuses": [running]})
        self._later(END_AFTER, self._end_build, job)

    def _end_build(self, job: Manifest) -> None:
        notes = job["metadata"]["annotations"]
        if notes[names.COMMIT] in self.broken:
            message = "# example.com/checkout\n./main.go:3:1: undefined: x\n"
            fetch = factories.terminated("fetch", message=factories.FETCHED % notes[names.COMMIT])
            build = factories.terminated("build", code=1, message=message)
            pod = factories.pod(job, init=[fetch, build], main=[])
            outcome, at = "Failed", {}
        else:
            pushed = digest(notes[names.INPUTS])
            self.pushed.add(pushed)
            pod = factories.pod(job)
            pod["status"]["initContainerStatuses"][1] = factories.terminated(
                "build", message=pushed
            )
            outcome, at = "Complete", {"completionTime": self._stamp()}
        pod["metadata"]["namespace"] = job["metadata"]["namespace"]
        if self._world.find("Pod", job["metadata"]["namespace"], pod["metadata"]["name"]):
            self._status("Pod", pod, pod["status"])
        condition = {"type": outcome, "status": "True", "lastTransitionTime": self._stamp()}

        def end(live: Manifest) -> None:
            self._status("Job", live, {"conditions": [condition], **at})

        self._later(STATUS_AFTER, end, job)

    def _roll_out(self, deployment: Manifest) -> None:
        generation = deployment["metadata"]["generation"]
        shown = factories.settled(deployment, generation=generation)
        self._status("Deployment", deployment, shown["status"])

    def _scale(self, autoscaler: Manifest) -> None:
        active = {"type": "ScalingActive", "status": "True"}
        self._status("HorizontalPodAutoscaler", autoscaler, {"conditions": [active]})
        metadata = autoscaler["metadata"]
        target = (metadata["namespace"], autoscaler["spec"]["scaleTargetRef"]["name"])
        if self.scale_to and self._world.find("Deployment", *target):
            self._world.edit(
                "Deployment",
                *target,
                lambda live: live["spec"].update(replicas=self.scale_to),
                manager="autoscaler",
            )

    def _status(self, kind: str, manifest: Manifest, status: Manifest) -> None:
        metadata = manifest["metadata"]
        self._world.set_status(kind, metadata["namespace"], metadata["name"], status)
