"""The build step: which build is wanted, what has become of it, and whether to start one.

A build is named by its inputs and its attempt. What is known of one comes from its Job while that
exists, else from the status's history or from the Deployment that serves it, so neither a lost
status nor a removed Job builds anything twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from goservice import names, resources
from goservice.api import conditions
from goservice.api.conditions import Reason, timestamp
from goservice.api.resource import GoService
from goservice.build import kaniko
from goservice.build.inputs import image_inputs, inputs_hash
from goservice.observed import Observed, Question, annotation, as_number, condition, moment, owned
from goservice.settings import Settings

Manifest = dict[str, Any]

TRIES = 5
FIRST_DELAY = timedelta(seconds=30)
LONGEST_DELAY = timedelta(minutes=10)
HISTORY = 10
LOOKS = (timedelta(seconds=15), timedelta(seconds=60))
"""When a build that has not started is asked for its events."""


@dataclass(frozen=True)
class Attempt:
    """One build, as far as it is known."""

    name: str
    inputs: str
    number: int
    outcome: kaniko.Outcome
    job: Manifest | None = None
    started: str = ""
    finished: str = ""
    commit: str = ""
    generation: str = ""
    tries: int = 1
    triggers: tuple[str, ...] = ()
    question: Question | None = None
    """What to ask before its end is known: the Job is over, and no pod has told how."""

    @property
    def running(self) -> bool:
        """Whether it is not over."""
        return isinstance(self.outcome, kaniko.Running)


@dataclass(frozen=True)
class BuildStep:
    """What the step found and wants."""

    phase: str
    """None, Queued, Running, Succeeded, Failed or Retrying."""
    reason: Reason
    message: str = ""
    attempt: Attempt | None = None
    digest: str = ""
    """Of the wanted image, empty while there is none."""
    fetched: kaniko.Fetched = kaniko.Fetched()
    create: tuple[Manifest, ...] = ()
    questions: tuple[Question, ...] = ()
    again: float | None = None
    """Seconds until something is due."""


def attempts(service: GoService, observed: Observed) -> list[Attempt]:
    """All builds of the service that have a Job, the oldest first."""
    pods: dict[str, Manifest] = {}
    for pod in observed.of_kind("Pod"):
        for reference in pod["metadata"].get("ownerReferences", ()):
            newer = pods.get(reference["uid"])
            if newer is None or _created(newer) < _created(pod):
                pods[reference["uid"]] = pod
    found = []
    for job in observed.of_kind("Job"):
        if not owned(job, service.uid):
            continue
        last = pods.get(job["metadata"].get("uid", ""))
        found.append(_told(service, observed, _attempt(job, last), last))
    return sorted(found, key=lambda a: (a.started, a.number))


def _told(
    service: GoService, observed: Observed, attempt: Attempt, pod: Manifest | None
) -> Attempt:
    """The attempt with its end looked up where the pod that is seen does not tell it.

    Jobs and pods are watched apart: a pod's end may come later than its Job's, or the pod may be
    gone. What was recorded counts first; else the API server is asked before a build is called
    lost, because a lost build is done again.
    """
    lost = isinstance(attempt.outcome, kaniko.Failed) and attempt.outcome.reason is Reason.NODE_LOST
    if not lost or (pod or {}).get("status", {}).get("reason"):
        return attempt
    recorded = {a.name: a.outcome for a in _remembered(service, observed, attempt.inputs)}
    if attempt.name in recorded:
        return replace(attempt, outcome=recorded[attempt.name])
    question = Question(
        "Pod",
        service.namespace,
        label_selector=f"{names.SERVICE}={service.name},{names.COMPONENT}=build",
        occasion=f"end of {attempt.name}",
    )
    answer = observed.answers.get(question)
    if answer is None:
        return replace(attempt, outcome=kaniko.Running(), question=question)
    assert attempt.job is not None
    uid = attempt.job["metadata"].get("uid")
    own = [
        p for p in answer if any(r["uid"] == uid for r in p["metadata"].get("ownerReferences", ()))
    ]
    newest = max(own, key=_created, default=None)
    return replace(attempt, outcome=kaniko.outcome(attempt.job, newest))


def _attempt(job: Manifest, pod: Manifest | None) -> Attempt:
    metadata = job["metadata"]
    ended = condition(job, "Complete") or condition(job, "Failed")
    finished = job.get("status", {}).get("completionTime") or ended.get("lastTransitionTime", "")
    commit = annotation(job, names.COMMIT)
    return Attempt(
        name=metadata["name"],
        inputs=annotation(job, names.INPUTS),
        number=as_number(annotation(job, names.ATTEMPT), 1),
        outcome=kaniko.outcome(job, pod),
        job=job,
        started=metadata.get("creationTimestamp", ""),
        finished=finished,
        commit=commit if re.fullmatch(r"[0-9a-f]{40}", commit) else "",
        generation=annotation(job, names.GENERATION),
        tries=as_number(annotation(job, names.TRIES), 1),
        triggers=tuple(re.findall(r"\b[A-Za-z]{1,20}\b", annotation(job, names.TRIGGER))[:4]),
    )


def _created(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("creationTimestamp", ""))


def history(service: GoService, observed: Observed, known: Iterable[Attempt]) -> list[Manifest]:
    """The newest ten finished builds, with those that are not recorded yet."""
    recorded = {item["build"]: item for item in observed.status.get("history") or ()}
    for attempt in known:
        if attempt.running or attempt.name in recorded:
            continue
        item = {
            "build": attempt.name,
            "commit": attempt.commit,
            "builtAt": attempt.finished,
            "outcome": "Succeeded",
        }
        if isinstance(attempt.outcome, kaniko.Succeeded):
            item["image"] = names.image(service, attempt.outcome.digest)
        elif isinstance(attempt.outcome, kaniko.Failed):
            item["outcome"] = str(attempt.outcome.reason)
        recorded[attempt.name] = {k: v for k, v in item.items() if v}
    newest = sorted(
        recorded.values(), key=lambda i: (i.get("builtAt", ""), i["build"]), reverse=True
    )
    return newest[:HISTORY]


def step(
    service: GoService, observed: Observed, settings: Settings, now: datetime, commit: str
) -> BuildStep:
    """What to build for a commit, if anything."""
    inputs = inputs_hash(service, settings, commit)
    jobs = attempts(service, observed)
    newest = _newest(service, observed, jobs, inputs)
    rebuild = pending_rebuild(service, observed)
    if newest is not None and not (rebuild and _fresh(observed)):
        found = _known(service, observed, newest, now)
        if found is not None:
            return found
    return _start(service, observed, settings, now, commit, inputs, jobs, newest)


def _fresh(observed: Observed) -> bool:
    return observed.resolution is not None and observed.resolution.fresh


def pending_rebuild(service: GoService, observed: Observed) -> bool:
    """Whether a rebuild is asked for that no build has answered yet."""
    asked = service.rebuild_requested_at
    if not asked:
        return False
    handled = {
        observed.status.get("lastHandledRebuildAt", ""),
        annotation(observed.child("Deployment", service.name, service.uid), names.REBUILD_HANDLED),
        *(
            annotation(job, names.REBUILD_HANDLED)
            for job in observed.of_kind("Job")
            if owned(job, service.uid)
        ),
    }
    return asked not in handled


def _newest(
    service: GoService, observed: Observed, jobs: Iterable[Attempt], inputs: str
) -> Attempt | None:
    """The highest attempt of these inputs that anything knows of."""
    found = {a.number: a for a in _remembered(service, observed, inputs)}
    found.update({a.number: a for a in jobs if a.inputs == inputs})
    return found[max(found)] if found else None


def _remembered(service: GoService, observed: Observed, inputs: str) -> Iterable[Attempt]:
    """Attempts of these inputs in the Deployment and in the status."""
    deployment = observed.child("Deployment", service.name, service.uid)
    if annotation(deployment, names.INPUTS) == inputs:
        last = as_number(annotation(deployment, names.ATTEMPT), 1)
        commit = annotation(deployment, names.COMMIT)
        go = annotation(deployment, names.GO_VERSION)
        done = _made(resources.image_of(deployment), commit, go)
        if done is not None:
            yield Attempt(names.build(service, inputs, last), inputs, last, done, commit=commit)
    prefix = names.build(service, inputs, 0)[:-1]
    for item in observed.status.get("history") or ():
        name = item["build"]
        last = as_number(name.removeprefix(prefix), 0)
        if not name.startswith(prefix) or not last:
            continue
        outcome = _recorded(observed, item)
        if outcome is None:
            continue
        yield Attempt(
            name,
            inputs,
            last,
            outcome,
            finished=item.get("builtAt", ""),
            commit=item.get("commit", ""),
            generation=str(observed.status.get("observedGeneration", "")),
        )


def _recorded(observed: Observed, item: Mapping[str, Any]) -> kaniko.Outcome | None:
    """A finished build's outcome as the status tells it, in the words of the last pass."""
    if item.get("outcome") == "Succeeded":
        go = str(observed.status.get("goVersion", ""))
        return _made(str(item.get("image", "")), str(item.get("commit", "")), go)
    latest = observed.status.get("build") or {}
    if latest.get("name") != item["build"]:
        return None
    built = conditions.find(observed.status, conditions.Type.BUILT)
    reason = item["outcome"]
    if built.get("reason") == Reason.RETRIES_EXHAUSTED:
        reason = Reason.RETRIES_EXHAUSTED
    message = str(built.get("message", "")) if built.get("reason") == reason else ""
    why = conditions.known(reason) or Reason.BUILD_FAILED
    return kaniko.Failed(why, message, tail=str(latest.get("logTail", "")))


def _made(image: str, commit: str, go: str) -> kaniko.Succeeded | None:
    """A success that an image's name tells of; None if it has no digest."""
    digest = image.partition("@")[2]
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        return None
    version = go if re.fullmatch(r"[0-9a-z.]{1,20}", go) else ""
    return kaniko.Succeeded(digest, kaniko.Fetched(commit=commit, go=version))


def _known(
    service: GoService, observed: Observed, attempt: Attempt, now: datetime
) -> BuildStep | None:
    """What the newest attempt comes to; None if another is due."""
    match attempt.outcome:
        case kaniko.Succeeded(digest=digest, fetched=fetched):
            return BuildStep(
                "Succeeded", Reason.SUCCEEDED, attempt=attempt, digest=digest, fetched=fetched
            )
        case kaniko.Running():
            return _progress(service, observed, attempt, attempt.outcome, now)
        case kaniko.Failed():
            return _after_failure(service, attempt, attempt.outcome, now)


def _after_failure(
    service: GoService, attempt: Attempt, failed: kaniko.Failed, now: datetime
) -> BuildStep | None:
    if failed.retry and attempt.tries < TRIES:
        delay = min(FIRST_DELAY * 2 ** (attempt.tries - 1), LONGEST_DELAY)
        due = (moment(attempt.finished) or now) + delay
        if now >= due:
            return None
        message = failed.message
        if attempt.job is not None:  # without it these are the words that already say so
            message += f" Attempt {attempt.tries} of {TRIES} failed ({failed.reason});"
            message += f" the next one starts at {timestamp(due)}."
        again = (due - now).total_seconds()
        return BuildStep("Retrying", failed.reason, message, attempt, again=again)
    if attempt.generation != str(service.generation):
        return None
    if attempt.job is None:
        return BuildStep("Failed", failed.reason, failed.message, attempt)
    hint = f" See the log: {logs_command(service, attempt, failed)}" if failed.container else ""
    if failed.retry:
        message = f"{failed.message} It failed {TRIES} times ({failed.reason}).{hint}"
        return BuildStep("Failed", Reason.RETRIES_EXHAUSTED, message, attempt)
    return BuildStep("Failed", failed.reason, f"{failed.message}{hint}", attempt)


def logs_command(service: GoService, attempt: Attempt, outcome: kaniko.Outcome) -> str:
    """The command that shows the build's log."""
    container = getattr(outcome, "container", "") or kaniko.BUILD
    return f"kubectl logs -n {service.namespace} job/{attempt.name} -c {container}"


def _progress(
    service: GoService, observed: Observed, attempt: Attempt, running: kaniko.Running, now: datetime
) -> BuildStep:
    commit = attempt.commit[:12]
    where = f"Job {service.namespace}/{attempt.name}"
    message = f"Building commit {commit} in {where}. Follow it: goservice logs {service.name} -n {service.namespace} -f"
    if attempt.question is not None:
        asked = (attempt.question,)
        return BuildStep("Running", Reason.BUILDING, message, attempt, questions=asked)
    if running.container and not running.waiting:
        return BuildStep("Running", Reason.BUILDING, message, attempt)
    pending = now - (moment(attempt.started) or now)
    due = [look for look in LOOKS if pending >= look]
    later = [(look - pending).total_seconds() for look in LOOKS if pending < look]
    again = later[0] if later else None
    if not due:
        return BuildStep("Running", Reason.BUILDING, message, attempt, again=again)
    questions = _questions(service, observed, attempt, occasion=str(due[-1].seconds))
    reason, trouble = _trouble(observed, service, attempt)
    if running.missing_image:
        # In words that stay: the kubelet finds other ones at each try.
        reason = Reason.BASE_IMAGE_NOT_FOUND
        trouble = (
            f"The node cannot pull {running.missing_image}: look at build.builderImage;"
            " the build goes on by itself once it can."
        )
    if running.missing_claim:
        reason = Reason.CLAIM_NOT_FOUND
        trouble = (
            f"PersistentVolumeClaim {service.namespace}/{running.missing_claim} (build.cache.claimName)"
            " does not exist; the build goes on by itself once it does."
        )
    if not trouble and running.waiting:
        trouble = f"The build cannot start: {running.waiting}"
    if reason is not None:
        show = f"kubectl describe -n {service.namespace} job/{attempt.name}"
        return BuildStep(
            "Blocked", reason, f"{trouble} See: {show}", attempt, questions=questions, again=again
        )
    message = f"{message}. {trouble}" if trouble else message
    return BuildStep("Running", Reason.BUILDING, message, attempt, questions=questions, again=again)


def _questions(
    service: GoService, observed: Observed, attempt: Attempt, occasion: str
) -> tuple[Question, ...]:
    """Events of the Job and of its pod."""
    job = attempt.job
    assert job is not None
    uids = [job["metadata"].get("uid", "")]
    for pod in observed.of_kind("Pod"):
        if any(r["uid"] == uids[0] for r in pod["metadata"].get("ownerReferences", ())):
            uids.append(pod["metadata"].get("uid", ""))
    return tuple(
        Question(
            "Event",
            service.namespace,
            field_selector=f"involvedObject.uid={uid}",
            occasion=occasion,
        )
        for uid in uids
        if uid
    )


def _trouble(observed: Observed, service: GoService, attempt: Attempt) -> tuple[Reason | None, str]:
    """What the events say of a build that does not start."""
    for question in reversed(_all_questions(observed, service, attempt)):
        for event in reversed(observed.answers[question]):
            message = kaniko.clean(str(event.get("message", "")))[:300]
            if event.get("reason") == "FailedCreate" and "PodSecurity" in message:
                return Reason.POD_SECURITY_VIOLATION, (
                    f"Namespace {service.namespace} does not accept the build's pod, which needs Pod"
                    f" Security level baseline: {message}"
                )
            if (
                event.get("reason") == "FailedMount"
                and "secret" in message
                and "not found" in message
            ):
                secret = service.spec.image.push_secret_ref
                name = secret.name if secret else ""
                return Reason.SECRET_NOT_FOUND, (
                    f"Secret {service.namespace}/{name} (image.pushSecretRef) does not exist;"
                    " the build goes on by itself once it does."
                )
            if event.get("reason") == "FailedCreate":
                return None, f"The build's pod cannot be created: {message}"
    return None, ""


def _all_questions(observed: Observed, service: GoService, attempt: Attempt) -> list[Question]:
    return [
        question
        for look in LOOKS
        for question in _questions(service, observed, attempt, occasion=str(look.seconds))
        if question in observed.answers
    ]


def _start(
    service: GoService,
    observed: Observed,
    settings: Settings,
    now: datetime,
    commit: str,
    inputs: str,
    jobs: list[Attempt],
    newest: Attempt | None,
) -> BuildStep:
    number = 1 + _highest(service, observed, jobs, inputs)
    triggers = _triggers(service, observed, settings, commit, jobs, newest)
    wanted = Attempt(
        names.build(service, inputs, number),
        inputs,
        number,
        kaniko.Running(),
        commit=commit,
        started=timestamp(now),
        triggers=triggers,
    )
    other = next((a for a in jobs if a.running), None)
    if other is not None:
        blocked = _known(service, observed, other, now)
        message = f"Waits for the running build {other.name} to end."
        questions = blocked.questions if blocked else ()
        again = blocked.again if blocked else None
        if blocked and blocked.phase == "Blocked":
            message = f"{blocked.message} (build {other.name}, of an older commit or spec)"
            return replace(blocked, message=message)
        return BuildStep(
            "Running", Reason.BUILDING, message, other, questions=questions, again=again
        )
    if observed.fleet.running + observed.fleet.ahead >= settings.builds.max_concurrent:
        message = (
            f"The build of commit {commit[:12]} waits for a place:"
            f" the platform runs {settings.builds.max_concurrent} at once."
        )
        return BuildStep("Queued", Reason.BUILD_QUEUED, message, wanted)
    tries = 1
    if newest and isinstance(newest.outcome, kaniko.Failed) and newest.outcome.retry:
        # Past the last try only a new generation comes here: it starts to count anew.
        tries = newest.tries + 1 if triggers == ("Retry",) and newest.tries < TRIES else 1
    notes = {
        names.TRIGGER: ",".join(triggers),
        names.GENERATION: str(service.generation),
        names.TRIES: str(tries),
        **_hashes(service, settings, commit),
    }
    if service.rebuild_requested_at:
        notes[names.REBUILD_HANDLED] = service.rebuild_requested_at
    message = (
        f"Building commit {commit[:12]} in Job {service.namespace}/{wanted.name}."
        f" Follow it: goservice logs {service.name} -n {service.namespace} -f"
    )
    return BuildStep(
        "Running",
        Reason.BUILDING,
        message,
        wanted,
        create=(
            resources.build_files(service, settings, commit, inputs, wanted.name),
            resources.build_job(service, settings, commit, inputs, attempt=number, notes=notes),
        ),
        again=LOOKS[0].total_seconds() + 1,
    )


def _highest(service: GoService, observed: Observed, jobs: Iterable[Attempt], inputs: str) -> int:
    """The highest attempt of these inputs that is known anywhere."""
    numbers = [a.number for a in jobs if a.inputs == inputs]
    numbers += [a.number for a in _remembered(service, observed, inputs)]
    prefix = names.build(service, inputs, 0)[:-1]
    for job in observed.of_kind("Job"):
        numbers.append(as_number(job["metadata"]["name"].removeprefix(prefix), 0))
    latest = observed.status.get("build") or {}
    if latest.get("phase") != "Queued":
        numbers.append(as_number(str(latest.get("name", "")).removeprefix(prefix), 0))
    return max(numbers, default=0)


def _hashes(service: GoService, settings: Settings, commit: str) -> dict[str, str]:
    inputs = image_inputs(service, settings, commit)
    reach = inputs.pop("settings")
    inputs.pop("commit")
    return {names.SPEC_HASH: names.digest_of(inputs), names.SETTINGS_HASH: names.digest_of(reach)}


def _triggers(
    service: GoService,
    observed: Observed,
    settings: Settings,
    commit: str,
    jobs: list[Attempt],
    newest: Attempt | None,
) -> tuple[str, ...]:
    """Why a build is wanted, for the person who reads the status."""
    if pending_rebuild(service, observed):
        return ("RebuildRequested",)
    if newest is not None:
        return ("Retry",)
    last = jobs[-1].job if jobs else observed.child("Deployment", service.name, service.uid)
    before = annotation(last, names.COMMIT)
    if not before:
        earlier = observed.status.get("history") or ()
        before = str(earlier[0].get("commit", "")) if earlier else ""
    if not before:
        return ("FirstBuild",)
    hashes = _hashes(service, settings, commit)
    reasons = [
        ("NewCommit", commit != before),
        ("SpecChanged", _differs(last, names.SPEC_HASH, hashes)),
        ("SettingsChanged", _differs(last, names.SETTINGS_HASH, hashes)),
    ]
    return tuple(name for name, holds in reasons if holds) or ("SpecChanged",)


def _differs(last: Manifest | None, key: str, hashes: Mapping[str, str]) -> bool:
    before = annotation(last, key)
    return bool(before) and before != hashes[key]


def to_prune(service: GoService, observed: Observed, current: str) -> list[Manifest]:
    """Jobs and ConfigMaps beyond the history, recorded in the status that was last written."""
    recorded = {item["build"] for item in observed.status.get("history") or ()}
    oldest = min((i.get("builtAt", "") for i in observed.status.get("history") or ()), default="")
    jobs = attempts(service, observed)
    limits = service.spec.build.history
    finished = [a for a in reversed(jobs) if not a.running]
    good = [a for a in finished if isinstance(a.outcome, kaniko.Succeeded)]
    bad = [a for a in finished if isinstance(a.outcome, kaniko.Failed)]
    superfluous = [
        a
        for a in good[limits.succeeded :] + bad[limits.failed :]
        if a.name != current
        and (a.name in recorded or (len(recorded) >= HISTORY and a.finished < oldest))
    ]
    result: list[Manifest] = [a.job for a in superfluous if a.job is not None]
    kept = {a.name for a in jobs} - {a.name for a in superfluous} | {current}
    if _may_be_about_to_build(service, observed):
        return result
    result += [
        files
        for files in observed.of_kind("ConfigMap")
        if owned(files, service.uid) and files["metadata"]["name"] not in kept
    ]
    return result


def _may_be_about_to_build(service: GoService, observed: Observed) -> bool:
    """Whether files without a Job may be of the build that comes next.

    An operator that died between the two finds them before it knows the newest commit again.
    """
    if service.spec.image.digest is not None:
        return False
    return observed.resolution is None or not observed.resolution.sha
