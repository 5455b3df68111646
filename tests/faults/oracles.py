"""What must hold in every run. Each oracle is a function with a sentence for a name.

A `Recorder` judges every change of the world as it happens; the others judge a run at its end, most
of them against the undisturbed run.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from goservice import names
from goservice.api import resource
from goservice.cluster.kinds import WATCHED
from goservice.manifest import Manifest, owned
from goservice.objects import children, deployment
from testbed.inmemory.world import World
from tests.faults.actors import Actors

if TYPE_CHECKING:
    from tests.faults.runs import Run

Key = tuple[str, str, str]
"""Kind, namespace and name."""

TIMES = {
    "creationTimestamp", "lastTransitionTime", "lastUpdateTime", "startedAt", "finishedAt",
    "builtAt", "completionTime", "deletionTimestamp",
}  # fmt: skip
"""Fields that hold a moment."""
VERSIONS = {"uid", "resourceVersion"}
"""Fields that the server makes up."""


class Recorder:
    """Sees every change, and keeps what each one broke."""

    def __init__(self, world: World, actors: Actors) -> None:
        self.violations: list[str] = []
        self.counts: Counter[tuple[str, str, str]] = Counter()
        """Creations and deletions by change, kind and name."""
        self._world = world
        self._actors = actors
        self._before: dict[Key, Manifest] = {}
        self._pinned: set[str] = set()
        for kind in (resource.KIND, "Deployment"):
            for manifest in world.all(kind):
                self._before[_key(manifest)] = manifest
        world.on_change(self._saw)

    def _saw(self, change: str, manifest: Manifest) -> None:
        kind, key = manifest["kind"], _key(manifest)
        if kind == "Event":
            return
        if change != "MODIFIED":
            self.counts[change, kind, manifest["metadata"]["name"]] += 1
        digest = manifest["spec"]["image"].get("digest") if kind == resource.KIND else None
        if digest:
            self._pinned.add(digest)
        before = self._before.get(key)
        by_operator = not self._actors.writer
        for rule in RULES:
            fault = rule(self, change, manifest, before, by_operator)
            if fault:
                self.violations.append(f"{rule.__name__}: {fault}")
        if change == "DELETED":
            self._before.pop(key, None)
        else:
            self._before[key] = manifest

    def jobs(self) -> list[Manifest]:
        """All Jobs now."""
        return self._world.all("Job")

    def service(self, namespace: str, name: str) -> Manifest | None:
        """A GoService now."""
        return self._world.find(resource.KIND, namespace, name)

    def may_run(self, digest: str) -> bool:
        """Whether an image comes from a successful Job or from the spec."""
        return digest in self._actors.pushed or digest in self._pinned


# --- at every change ------------------------------------------------------------------------------

Rule = Callable[[Recorder, str, Manifest, Manifest | None, bool], str]


def one_job_per_inputs_and_attempt(
    recorder: Recorder, change: str, manifest: Manifest, before: Manifest | None, by_operator: bool
) -> str:
    """A Job's name says its inputs and attempt, and is used once."""
    name = manifest["metadata"]["name"]
    again = (
        manifest["kind"] == "Job" and change == "ADDED" and recorder.counts[change, "Job", name] > 1
    )
    return f"Job {name} was created {recorder.counts[change, 'Job', name]} times" if again else ""


def never_two_running_builds(
    recorder: Recorder, change: str, manifest: Manifest, before: Manifest | None, by_operator: bool
) -> str:
    """Of one service, that is of one uid, one build runs at most."""
    if manifest["kind"] != "Job" or change != "ADDED":
        return ""
    running = Counter(
        job["metadata"]["ownerReferences"][0]["uid"]
        for job in recorder.jobs()
        if not job.get("status", {}).get("conditions")
    )
    return "two builds run at once" if max(running.values(), default=0) > 1 else ""


def the_operator_never_deletes_what_serves(
    recorder: Recorder, change: str, manifest: Manifest, before: Manifest | None, by_operator: bool
) -> str:
    """A Deployment goes with its GoService only."""
    lost = manifest["kind"] == "Deployment" and change == "DELETED" and by_operator
    return "the operator deleted the Deployment" if lost else ""


def the_operator_scales_down_only_to_what_is_asked(
    recorder: Recorder, change: str, manifest: Manifest, before: Manifest | None, by_operator: bool
) -> str:
    """`replicas` is lowered by the operator only to spec.replicas without an autoscaler."""
    if manifest["kind"] != "Deployment" or before is None or not by_operator:
        return ""
    was, now = before["spec"]["replicas"], manifest["spec"]["replicas"]
    if now >= was or change == "DELETED":
        return ""
    metadata = manifest["metadata"]
    wanted = (recorder.service(metadata["namespace"], metadata["name"]) or {}).get("spec", {})
    asked = "autoscaling" not in wanted and wanted.get("replicas", 1) == now
    return "" if asked else f"replicas went from {was} to {now}"


def every_image_comes_from_a_job_or_the_spec(
    recorder: Recorder, change: str, manifest: Manifest, before: Manifest | None, by_operator: bool
) -> str:
    """What runs was pushed by a build that succeeded, or is named in spec.image.digest."""
    if manifest["kind"] != "Deployment":
        return ""
    image = deployment.image_of(manifest)
    return "" if recorder.may_run(image.partition("@")[2]) else f"{image} comes from nowhere"


def owners_are_current(
    recorder: Recorder, change: str, manifest: Manifest, before: Manifest | None, by_operator: bool
) -> str:
    """What the operator makes belongs to the GoService that is there now."""
    metadata = manifest["metadata"]
    service = (metadata.get("labels") or {}).get(names.SERVICE)
    if not by_operator or change != "ADDED" or not service:
        return ""
    owner = recorder.service(metadata["namespace"], service)
    if owner is None or owned(manifest, owner["metadata"]["uid"]):
        # For a resource deleted this very moment the object is collected; see the end state.
        return ""
    return f"{manifest['kind']} {metadata['name']} belongs to another uid"


def the_status_names_only_builds_that_were_started(
    recorder: Recorder, change: str, manifest: Manifest, before: Manifest | None, by_operator: bool
) -> str:
    """`status.build` is of a Job that was made, or of one that an earlier status had named."""
    if manifest["kind"] != resource.KIND or change != "MODIFIED" or not by_operator:
        return ""
    name = (manifest.get("status", {}).get("build") or {}).get("name")
    was = ((before or {}).get("status", {}).get("build") or {}).get("name")
    if name in (None, was) or recorder.counts["ADDED", "Job", name]:
        return ""
    there = {job["metadata"]["name"] for job in recorder.jobs()}
    return "" if name in there else f"status.build is {name}, which was never made"


RULES: tuple[Rule, ...] = (
    the_status_names_only_builds_that_were_started,
    one_job_per_inputs_and_attempt,
    never_two_running_builds,
    the_operator_never_deletes_what_serves,
    the_operator_scales_down_only_to_what_is_asked,
    every_image_comes_from_a_job_or_the_spec,
    owners_are_current,
)
"""What is asked at every change."""


# --- at the end of a run ----------------------------------------------------------------------------


def nothing_was_broken_on_the_way(run: Run, reference: Run) -> str:
    """No change of the world broke a rule."""
    return "; ".join(run.violations)


def it_converged_in_bounded_time(run: Run, reference: Run) -> str:
    """Every step of the scenario was reached in bounded virtual time."""
    return run.late


def the_end_state_is_the_same(run: Run, reference: Run) -> str:
    """All objects are as after the undisturbed run, but for uids, versions and times."""
    if run.end == reference.end:
        return ""
    return "; ".join(differences(run.end, reference.end))


def creations_and_deletions_are_the_same(run: Run, reference: Run) -> str:
    """No object was made or removed more or less often."""
    if run.counts == reference.counts:
        return ""
    more, less = run.counts - reference.counts, reference.counts - run.counts
    return f"more: {sorted(more.items())}, less: {sorted(less.items())}"


def owners_are_current_at_the_end(run: Run, reference: Run) -> str:
    """Nothing is left that belongs to a resource that is no more."""
    return "; ".join(run.orphans)


def then_nothing_is_written(run: Run, reference: Run) -> str:
    """For hours after convergence the operator asks for no write."""
    return f"{len(run.writes_after)} writes: {run.writes_after[:5]}" if run.writes_after else ""


def a_finished_build_is_not_shown_as_running(run: Run, reference: Run) -> str:
    """At the end no build of the history is the one that `status.build` calls Running."""
    wrong = []
    for key, manifest in run.end.items():
        is_service = key.startswith(f"{resource.KIND}/")
        status = manifest.get("status", {}) if is_service else {}
        build = status.get("build") or {}
        over = {item["build"] for item in status.get("history") or ()}
        if build.get("phase") in ("Queued", "Running") and build.get("name") in over:
            wrong.append(f"{build['name']} is shown as {build['phase']}")
    return "; ".join(wrong)


def no_defect_is_logged(run: Run, reference: Run) -> str:
    """No unexpected exception: not in a pass, not in a task."""
    return "; ".join(run.defects)


def every_strike_fired(run: Run, reference: Run) -> str:
    """A point that is never reached proves nothing."""
    missing = [str(s) for s in run.strikes if s not in run.fired]
    return f"never reached: {', '.join(missing)}" if missing else ""


ORACLES: tuple[Callable[[Run, Run], str], ...] = (
    nothing_was_broken_on_the_way,
    it_converged_in_bounded_time,
    the_end_state_is_the_same,
    creations_and_deletions_are_the_same,
    owners_are_current_at_the_end,
    then_nothing_is_written,
    a_finished_build_is_not_shown_as_running,
    no_defect_is_logged,
    every_strike_fired,
)
"""What is asked at a run's end."""


def judged(run: Run, reference: Run) -> list[str]:
    """What every oracle says against a run."""
    found = ((oracle.__name__, oracle(run, reference)) for oracle in ORACLES)
    return [f"{name}: {fault}" for name, fault in found if fault]


# --- the state as it is compared ------------------------------------------------------------------


def end_state(world: World, *, any_attempt: bool = False) -> Manifest:
    """All objects but events, without what differs between equal runs."""
    shown: Manifest = {}
    for kind in WATCHED:
        for manifest in world.all(kind):
            shown[f"{kind}/{manifest['metadata']['name']}"] = masked(manifest)
    if any_attempt:
        text = re.sub(r"(-build-[0-9a-f]{10})-\d+", r"\1-N", json.dumps(shown))
        text = re.sub(r"/push-[0-9a-f]{32}", "/push-…", text)
        text = re.sub(rf'"({names.APPLIED}|{names.ATTEMPT}|attempt)": "?\w+"?', r'"\1": ""', text)
        shown = json.loads(text)
    return shown


def without_races(counts: Counter[tuple[str, str, str]]) -> Counter[tuple[str, str, str]]:
    """Creations and deletions that do not depend on who comes first: of Jobs, and of what serves."""
    result: Counter[tuple[str, str, str]] = Counter()
    for (change, kind, name), count in counts.items():
        if kind in ("Job", "Deployment", "Service", resource.KIND):
            result[change, kind, re.sub(r"-\d+$", "-N", name)] += count
    return result


def orphans(world: World) -> list[str]:
    """Our objects whose owner is not there."""
    present = {m["metadata"]["uid"] for kind in (resource.KIND, "Job") for m in world.all(kind)}
    found = []
    for kind in children.CHILD_KINDS:
        for manifest in world.all(kind):
            owners = {r["uid"] for r in manifest["metadata"].get("ownerReferences") or ()}
            if not owners & present:
                found.append(f"{kind} {manifest['metadata']['name']} has no owner")
    return found


def masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: masked(v) for k, v in value.items() if k not in TIMES | VERSIONS}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return value


def differences(got: Any, wanted: Any, path: str = "") -> list[str]:
    if isinstance(got, dict) and isinstance(wanted, dict):
        found = []
        for key in sorted(got.keys() | wanted.keys()):
            if key not in got or key not in wanted:
                found.append(f"{path}/{key} {'is missing' if key not in got else 'is too much'}")
            else:
                found += differences(got[key], wanted[key], f"{path}/{key}")
        return found
    if isinstance(got, list) and isinstance(wanted, list) and len(got) == len(wanted):
        pairs = enumerate(zip(got, wanted, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{path}/{i}")]
    return [] if got == wanted else [f"{path}: {got!r}, not {wanted!r}"]


def _key(manifest: Manifest) -> Key:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata["namespace"], metadata["name"]
