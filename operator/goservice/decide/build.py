"""The build step: which build is wanted, what has become of it, and whether to start one.

A build is named by its inputs and its attempt. What is known of one comes from its Job while that
exists, else from the status's history or from the Deployment that serves it, so neither a lost
status nor a removed Job builds anything twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import assert_never

from goservice import names
from goservice.api.conditions import Reason
from goservice.api.reaches import Written
from goservice.api.resource import GoService
from goservice.build.inputs import image_inputs
from goservice.build.outcome import Failed, Fetched, Outcome, Running, Succeeded
from goservice.build.pod import BUILD
from goservice.decide import pending_build
from goservice.decide.attempts import Attempt
from goservice.decide.facts import Facts
from goservice.decide.observed import Fleet, Lookup, Observed
from goservice.decide.source import SourceStep
from goservice.manifest import digest_of, format_time, parse_time, sentence
from goservice.objects.children import BuildOrder
from goservice.objects.job import made_as
from goservice.settings import Settings

TRIES = 5
"""Builds in a row that a platform failure may end before a person is called."""
FIRST_DELAY = timedelta(seconds=30)
"""The wait before the second try; doubled for each one after it."""
LONGEST_DELAY = timedelta(minutes=10)
"""The longest wait before any try."""
LOOK_AT_QUEUE = timedelta(minutes=5)
"""How often who waits for a build slot says anew how many are before it."""
ROUNDED = (5, 10, 20, 50, 100, 200, 500, 1000)
"""Builds that wait: a higher number of them is told as "more than" the last of these."""


class Phase(Enum):
    """How far the wanted build is."""

    NONE = auto()
    """None is wanted: the image is pinned, or no commit is known."""
    QUEUED = auto()
    """It waits for a build slot."""
    RUNNING = auto()
    """Its Job is at work, or is just being made."""
    BLOCKED = auto()
    """Its pod cannot start, and a person must act; it goes on by itself once that is mended."""
    RETRYING = auto()
    """The platform failed; the next try is due later."""
    FAILED = auto()
    """It failed, and a person must act."""
    SUCCEEDED = auto()
    """Its image exists."""


@dataclass(frozen=True)
class BuildStep:
    """What the step found and wants."""

    phase: Phase
    """How far the wanted build is."""
    reason: Reason
    """Why, in one word."""
    message: str = ""
    """Why, in sentences."""
    attempt: Attempt | None = None
    """The build that is meant: the wanted one, or an older one that still runs."""
    digest: str = ""
    """Of the wanted image; empty while there is none."""
    fetched: Fetched = Fetched()
    """What `fetch` learnt of the commit."""
    untagged: bool = False
    """Whether the registry refused the image its tag."""
    order: BuildOrder | None = None
    """The build to start; None if none is."""
    lookups: tuple[Lookup, ...] = ()
    """What to ask for."""
    requeue_after: float | None = None
    """Seconds until something is due."""
    discard: Attempt | None = None
    """A build that never began and that a corrected spec makes anew: its Job goes."""

    @property
    def has_pod(self) -> bool:
        """Whether a Job is there, or is just being made."""
        return self.phase in (Phase.RUNNING, Phase.BLOCKED)


def step(
    service: GoService,
    observed: Observed,
    settings: Settings,
    now: datetime,
    facts: Facts,
    source: SourceStep,
) -> BuildStep:
    """What to build, if anything."""
    if source.pinned:
        return BuildStep(Phase.NONE, Reason.SUCCEEDED, digest=service.spec.image.digest or "")
    if not source.commit:
        return BuildStep(Phase.NONE, Reason.RESOLVING)
    made_of = image_inputs(service, settings, source.commit)
    newest = _newest(facts, digest_of(made_of))
    if newest is not None and not (facts.pending_rebuild and observed.is_fresh):
        found = _known(service, settings, now, facts, newest)
        if found is not None:
            return found
    return _start(service, observed, settings, now, facts, source.commit, made_of, newest)


def _newest(facts: Facts, inputs: str) -> Attempt | None:
    """The highest attempt of these inputs that anything knows of."""
    found = {a.number: a for a in facts.past.get(inputs, ())}
    found.update({a.number: a for a in facts.builds if a.inputs == inputs})
    return found[max(found)] if found else None


def _corrected(
    service: GoService, settings: Settings, now: datetime, attempt: Attempt, running: Running
) -> str:
    """What was corrected since a build was ordered that no container of has ever run; empty if nothing.

    The platform's settings count only once it is stuck: an upgrade may make any build otherwise.
    """
    if running.begun or attempt.lookup is not None or not attempt.made or not attempt.commit:
        return ""
    by_platform = attempt.generation == str(service.generation)
    if by_platform and now - (parse_time(attempt.started) or now) < pending_build.LOOKS[-1]:
        return ""
    if attempt.made == made_as(service, settings, attempt.commit, attempt.inputs):
        return ""
    return "the platform's settings were" if by_platform else "the spec was"


def _known(
    service: GoService, settings: Settings, now: datetime, facts: Facts, attempt: Attempt
) -> BuildStep | None:
    """What the newest attempt comes to; None if another is due."""
    match attempt.outcome:
        case Succeeded(digest=digest, fetched=fetched, untagged=untagged):
            return BuildStep(
                Phase.SUCCEEDED,
                Reason.SUCCEEDED,
                attempt=attempt,
                digest=digest,
                fetched=fetched,
                untagged=untagged,
            )
        case Running():
            corrected = _corrected(service, settings, now, attempt, attempt.outcome)
            if corrected:
                message = (
                    f"Build {attempt.name} never began, and {corrected} corrected: it is made anew."
                )
                return BuildStep(
                    Phase.RUNNING,
                    Reason.BUILDING,
                    message,
                    attempt,
                    discard=None if attempt.leaving else attempt,
                )
            return _progress(service, now, facts, attempt, attempt.outcome)
        case Failed():
            return _after_failure(service, now, attempt, attempt.outcome)
        case _:
            assert_never(attempt.outcome)


def _progress(
    service: GoService, now: datetime, facts: Facts, attempt: Attempt, running: Running
) -> BuildStep:
    message = _building(service, attempt)
    if attempt.lookup is not None:
        asked = (attempt.lookup,)
        return BuildStep(Phase.RUNNING, Reason.BUILDING, message, attempt, lookups=asked)
    if not running.held_up:
        return BuildStep(Phase.RUNNING, Reason.BUILDING, message, attempt)
    pending = pending_build.look(service, now, facts, attempt, running)
    if pending.reason is not None:
        show = f"kubectl describe -n {service.namespace} job/{attempt.name}"
        phase, reason = Phase.BLOCKED, pending.reason
        message = f"{sentence(pending.trouble)} See: {show}"
    else:
        phase, reason = Phase.RUNNING, Reason.BUILDING
        message = f"{message}. {pending.trouble}" if pending.trouble else message
    return BuildStep(
        phase,
        reason,
        message,
        attempt,
        lookups=pending.lookups,
        requeue_after=pending.requeue_after,
    )


def _building(service: GoService, attempt: Attempt) -> str:
    return (
        f"Building commit {attempt.commit[:12]} in Job {service.namespace}/{attempt.name}."
        f" Follow it: goservice logs {service.name} -n {service.namespace} -f"
    )


def _after_failure(
    service: GoService, now: datetime, attempt: Attempt, failed: Failed
) -> BuildStep | None:
    if failed.retry and attempt.tries < TRIES:
        delay = min(FIRST_DELAY * 2 ** (attempt.tries - 1), LONGEST_DELAY)
        due = (parse_time(attempt.finished) or now) + delay
        if now >= due:
            return None
        message = failed.message
        if not attempt.recorded:  # else these are the words that already say so
            message = (
                sentence(message) + f" Attempt {attempt.tries} of {TRIES} failed ({failed.reason});"
            )
            message += f" the next one starts at {format_time(due)}."
        wait = (due - now).total_seconds()
        return BuildStep(Phase.RETRYING, failed.reason, message, attempt, requeue_after=wait)
    if attempt.generation != str(service.generation):
        return None
    if attempt.recorded:
        return BuildStep(Phase.FAILED, failed.reason, failed.message, attempt)
    hint = f" See the log: {logs_command(service, attempt, failed)}" if failed.container else ""
    if failed.retry:
        message = f"{sentence(failed.message)} It failed {TRIES} times ({failed.reason}).{hint}"
        return BuildStep(Phase.FAILED, Reason.RETRIES_EXHAUSTED, message, attempt)
    return BuildStep(Phase.FAILED, failed.reason, f"{sentence(failed.message)}{hint}", attempt)


def logs_command(service: GoService, attempt: Attempt, outcome: Outcome) -> str:
    """The command that shows the log of the container that failed, else of the one that builds."""
    failed = outcome.container if isinstance(outcome, Failed) else ""
    return f"kubectl logs -n {service.namespace} job/{attempt.name} -c {failed or BUILD}"


def _start(
    service: GoService,
    observed: Observed,
    settings: Settings,
    now: datetime,
    facts: Facts,
    commit: str,
    made_of: Written,
    newest: Attempt | None,
) -> BuildStep:
    inputs, hashes = digest_of(made_of), _hashes(made_of)
    number = 1 + _highest(facts, inputs)
    triggers = _triggers(facts, commit, hashes, newest)
    wanted = Attempt(
        names.build(service, inputs, number),
        inputs,
        number,
        Running(),
        commit=commit,
        started=format_time(now),
        triggers=triggers,
    )
    other = next((a for a in facts.builds if a.running), None)
    if other is not None:
        return _behind(service, settings, now, facts, other)
    full = _full(service, observed.fleet, settings)
    if full:
        message = f"The build of commit {commit[:12]} waits for a place: {full}"
        again = LOOK_AT_QUEUE.total_seconds()
        return BuildStep(Phase.QUEUED, Reason.BUILD_QUEUED, message, wanted, requeue_after=again)
    tries = 1
    if newest and isinstance(newest.outcome, Failed) and newest.outcome.retry:
        # Past the last try only a new generation comes here: it starts to count anew.
        tries = newest.tries + 1 if triggers == ("Retry",) and newest.tries < TRIES else 1
    spec_hash, settings_hash = hashes
    notes = {
        names.TRIGGER: ",".join(triggers),
        names.GENERATION: str(service.generation),
        names.TRIES: str(tries),
        names.MADE: made_as(service, settings, commit, inputs),
        names.SPEC_HASH: spec_hash,
        names.SETTINGS_HASH: settings_hash,
    }
    if service.rebuild_requested_at:
        notes[names.REBUILD_HANDLED] = service.rebuild_requested_at
    return BuildStep(
        Phase.RUNNING,
        Reason.BUILDING,
        _building(service, wanted),
        wanted,
        order=BuildOrder(commit, inputs, number, notes),
        requeue_after=pending_build.LOOKS[0].total_seconds() + 1,
    )


def _full(service: GoService, fleet: Fleet, settings: Settings) -> str:
    """Why no build may start now; empty if one may. Of other namespaces it tells no names."""
    most, here = settings.builds.max_concurrent, settings.builds_of_a_namespace
    taken = f"{fleet.running_here} of namespace {service.namespace}"
    if fleet.running_here + fleet.ahead_here >= here:
        rule = f"one namespace may have {here} at once (builds.maxConcurrentPerNamespace)"
        return f"{taken} run, and {rule}. {_before(fleet.before)}"
    if fleet.running + fleet.ahead >= most:
        rule = f"the platform runs {most} at once (builds.maxConcurrent), {taken}"
        return f"{rule}; namespaces take turns. {_before(fleet.before)}"
    return ""


def _before(number: int) -> str:
    """How many of its namespace are before it: rounded, so that not each step is a write."""
    if number == 0:
        return "It is the next of its namespace."
    passed = [step for step in ROUNDED if number > step]
    told = f"more than {passed[-1]}" if passed else str(number)
    return f"Before it {'waits' if number == 1 else 'wait'} {told} of its namespace."


def _behind(
    service: GoService, settings: Settings, now: datetime, facts: Facts, other: Attempt
) -> BuildStep:
    """The wait for a build of an older commit or spec: one runs at a time."""
    running = _known(service, settings, now, facts, other)
    if running is not None and running.discard is not None:
        return running
    if running is not None and running.phase is Phase.BLOCKED:
        message = f"{running.message} (build {other.name}, of an older commit or spec)"
        return replace(running, message=message)
    return BuildStep(
        Phase.RUNNING,
        Reason.BUILDING,
        f"Waits for the running build {other.name} to end.",
        other,
        lookups=running.lookups if running else (),
        requeue_after=running.requeue_after if running else None,
    )


def _highest(facts: Facts, inputs: str) -> int:
    """The highest attempt of these inputs that is known anywhere."""
    numbers = [a.number for a in facts.builds if a.inputs == inputs]
    numbers += [a.number for a in facts.past.get(inputs, ())]
    if facts.deployment is not None and facts.deployment.inputs == inputs:
        numbers.append(facts.deployment.attempt)
    return max([facts.highest_attempts.get(inputs, 0), *numbers])


def _hashes(made_of: Written) -> tuple[str, str]:
    """Of what the resource says of the inputs, and of what the platform says."""
    said = {key: value for key, value in made_of.items() if key not in ("settings", "commit")}
    return digest_of(said), digest_of(made_of["settings"])


def _triggers(
    facts: Facts, commit: str, hashes: tuple[str, str], newest: Attempt | None
) -> tuple[str, ...]:
    """Why a build is wanted, for the person who reads the status."""
    if facts.pending_rebuild:
        return ("RebuildRequested",)
    if newest is not None:
        return ("Retry",)
    last = facts.builds[-1] if facts.builds else None
    if last is not None:
        before = last.commit
    else:
        before = facts.deployment.commit if facts.deployment else ""
    if not before and facts.status.history:
        before = facts.status.history[0].commit
    if not before:
        return ("FirstBuild",)
    spec_hash, settings_hash = hashes
    reasons = [
        ("NewCommit", commit != before),
        ("SpecChanged", last is not None and last.spec_hash not in ("", spec_hash)),
        ("SettingsChanged", last is not None and last.settings_hash not in ("", settings_hash)),
    ]
    return tuple(name for name, holds in reasons if holds) or ("SpecChanged",)
