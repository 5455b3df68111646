"""What the version before the restructuring sent to the API server, to hold the new one to it.

A life is a GoService, the platform's settings and a row of happenings (`recorded_chapters`, done by
`recorded_hands`), played on the API server in memory under a clock of its own. Every call that the
operator makes is written down as it leaves; of each pass it is written down when it wants the next
one, and what it polls. Kept are digests: `recorded/lives.txt` has a line for each life, made by
commit 2b53938. Beside it stand the bodies and settings, which no generator is needed for, and
worlds as that version left them.

    python -m tests.support.recorded_lives --show 17    one life in full, to be compared

NOTE.md in `recorded/` says how to run the old version. Kept until the next release, then it goes.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import lzma
import multiprocessing
import pickle
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from goservice.cluster.kinds import ACCESS, WATCHED
from goservice.cluster.protocol import MANAGER
from goservice.errors import (
    ClusterError,
    GitAuthenticationFailed,
    GitUnavailable,
    Invalid,
    RevisionNotFound,
    SourceError,
    SourceForbidden,
)

# --- the code under test: every name of it that the recording depends on -------------------------
from goservice.loop.cache import Cache
from goservice.loop.reconcile import Reconciler
from goservice.manifest import Key, Manifest
from goservice.settings import Settings
from goservice.sources.polling import Answer
from testbed.inmemory.world import World
from tests.support import recorded_chapters as chapters

Manifests = list[Manifest]

REFUSED_BY_SERVER = Invalid
GIT_FAILURES: Mapping[str, SourceError] = {
    "no answer": GitUnavailable("the repository does not answer"),
    "no revision": RevisionNotFound("the repository has no such revision"),
    "credentials": GitAuthenticationFailed("the repository asks for credentials"),
    "address": SourceForbidden("the address is not allowed here"),
}


def new_operator(
    cluster: CallRecorder,
    seen: Cache,
    git: Repository,
    settings: Mapping[str, Any],
    clock: Callable[[], datetime],
) -> Reconciler:
    """An operator process that remembers nothing."""
    return Reconciler(cluster, seen, git, Settings.model_validate(settings), clock=clock)


def restored(objects: Manifests, owners: list[list[Any]], version: int) -> World:
    """A world that holds these objects, with the owners of their fields."""
    world = World(access=ACCESS)
    keys = [(m["kind"], m["metadata"]["namespace"], m["metadata"]["name"]) for m in objects]
    fields = [
        {(who, how): frozenset(map(tuple, paths)) for who, how, paths in each} for each in owners
    ]
    state = (dict(zip(keys, objects, strict=True)), dict(zip(keys, fields, strict=True)), version)
    world.restore(pickle.dumps(state))
    return world


def dumped(world: World) -> tuple[Manifests, list[list[Any]], int]:
    """What `restored` takes."""
    objects, owners, version = pickle.loads(world.snapshot())
    return (
        list(objects.values()),
        [
            [[who, how, sorted(map(list, paths))] for (who, how), paths in owners[key].items()]
            for key in objects
        ],
        version,
    )


class Repository:
    """Git as the reconciler asks it: it knows what the story says, and when it was asked last."""

    def __init__(self) -> None:
        self.sha = ""
        self.error: SourceError | None = None
        self.heard = False
        """Whether there has been any answer."""
        self.asked_at = 1.0
        self.demands = 0
        self.wanted: list[Any] | None = None

    def known(self, url: str, revision: str | None) -> Answer | None:
        """The last answer."""
        return Answer(self.sha, self.error, self.asked_at) if self.heard else None

    def want(self, url: str, revision: str | None, interval_seconds: int, key: Key) -> None:
        """Note what is polled, and how often."""
        self.wanted = [url, revision, interval_seconds]

    def forget(self, key: Key) -> None:
        """Note that nothing is polled."""
        self.wanted = None

    def refresh_now(self, url: str, revision: str | None) -> float:
        """Note that a new answer is wanted; one counts that is asked for after this."""
        self.demands += 1
        return self.asked_at + 1


# --- the recorder: what is below imports nothing of the code under test --------------------------

FOLDER = Path(__file__).parents[1] / "contract" / "recorded"
START = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
BETWEEN = timedelta(seconds=5)
"""What passes between two happenings."""
MOST_PASSES = 8
READS = {"get", "list"}
OURS = ("app.kubernetes.io/managed-by", "goservice-operator")
COLUMNS = ("calls", "writes", "inputs", "dockerfile", "template")
"""The digests of a life: everything in order; without reads and passes; and three of its parts."""


def canonical(value: object) -> bytes:
    """The one way to write a value as JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


class CallRecorder:
    """The API server as the operator reaches it: every call is told as it leaves."""

    def __init__(self, world: World, told: Callable[[Manifest], None]) -> None:
        self._world = world
        self._told = told

    def _tell(self, verb: str, kind: str, namespace: str | None, name: str, **more: Any) -> None:
        self._told({"call": verb, "kind": kind, "of": f"{namespace}/{name}", **more})

    async def serves(self, kind: str) -> bool:
        raise NotImplementedError("no kind of the table is optional")

    def _sends(self, verb: str, manifest: Manifest, **more: Any) -> None:
        metadata = manifest["metadata"]
        self._tell(
            verb,
            manifest["kind"],
            metadata["namespace"],
            metadata["name"],
            **more,
            manifest=canonical(manifest).decode(),
        )

    async def get(self, kind: str, namespace: str, name: str) -> Manifest:
        """One object."""
        self._tell("get", kind, namespace, name)
        return await self._world.get(kind, namespace, name)

    async def list(
        self,
        kind: str,
        namespace: str | None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Manifests:
        """Objects of a kind."""
        self._tell("list", kind, namespace, "", labels=label_selector, fields=field_selector)
        return await self._world.list(
            kind, namespace, label_selector=label_selector, field_selector=field_selector
        )

    async def apply(self, manifest: Manifest, *, manager: str = MANAGER, **more: Any) -> Manifest:
        """Server-side apply."""
        self._sends("apply", manifest, manager=manager, **more)
        return await self._world.apply(manifest, manager=manager, **more)

    async def apply_status(self, manifest: Manifest, **more: Any) -> Manifest:
        """Server-side apply of the status."""
        self._sends("apply_status", manifest, **more)
        return await self._world.apply_status(manifest, **more)

    async def create(self, manifest: Manifest) -> Manifest:
        """Create an object."""
        self._sends("create", manifest)
        return await self._world.create(manifest)

    async def patch_merge(self, kind: str, namespace: str, name: str, body: Manifest) -> Manifest:
        """JSON merge patch."""
        self._tell("patch", kind, namespace, name, body=body)
        return await self._world.patch_merge(kind, namespace, name, body)

    async def delete(
        self, kind: str, namespace: str, name: str, *, uid: str | None, **more: Any
    ) -> None:
        """Delete an object."""
        self._tell("delete", kind, namespace, name, uid=uid, **more)
        await self._world.delete(kind, namespace, name, uid=uid, **more)

    def pages(
        self, kind: str, namespace: str | None, *, label_selector: str = ""
    ) -> AsyncIterator[Manifests]:
        """Not asked for in a pass."""
        raise NotImplementedError

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        tail_lines: int | None = None,
    ) -> AsyncIterator[str]:
        """Not asked for in a pass."""
        raise NotImplementedError

    async def can_i(
        self, verb: str, kind: str, subresource: str = "", namespace: str | None = None
    ) -> bool:
        """Not asked for in a pass."""
        raise NotImplementedError


@dataclass(frozen=True)
class Given:
    """What a life begins with."""

    number: int
    name: str
    body: Manifest
    settings: Mapping[str, Any]
    whole: bool
    """Whether every chapter happens to it, not one."""


class Life:
    """A service's world, an operator, and the record of what it calls."""

    def __init__(self, given: Given, world: World | None = None) -> None:
        self.number = given.number
        self.body = given.body
        self.settings = dict(given.settings)
        metadata = given.body["metadata"]
        self.key: Key = (metadata["namespace"], metadata["name"])
        self.now = START
        self.world = world or World(access=ACCESS)
        self.world.clock = lambda: self.stamp
        self.git = Repository()
        self.commits = 0
        self.told: list[Manifest] = []
        self.keep: Callable[[str], None] = lambda point: None
        """Called at points where all is settled."""
        self.deaf: set[str] = set()
        """Kinds whose watches tell nothing."""
        self.world.on_change(self._saw)
        self.restart()

    @property
    def stamp(self) -> str:
        """The time as the API server writes it."""
        return self.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def writes(self) -> Manifests:
        """The calls that change something."""
        return [told for told in self.told if told.get("call", "get") not in READS]

    def restart(self) -> None:
        """A new operator process, which lists everything anew."""
        self._seen = Cache()
        for kind in WATCHED:
            for manifest in self.world.all(kind):
                self._saw("ADDED", manifest)
        recorder = CallRecorder(self.world, self.told.append)
        self._operator = new_operator(
            recorder, self._seen, self.git, self.settings, lambda: self.now
        )

    def refuse(self, kind: str) -> None:
        """The API server takes no object of a kind from the operator, if there is one."""

        def refusing(request: Any) -> None:
            if request.verb in ("apply", "create") and request.kind == kind:
                raise REFUSED_BY_SERVER(f"{kind} {request.name}: denied by a policy", status=422)

        self.world.before = refusing if kind else None

    def git_fails(self, why: str) -> None:
        """Git has no answer, for one of the reasons. Empty: it answers again."""
        self.git.heard = True
        self.git.error = GIT_FAILURES[why] if why else None
        self.git.asked_at += 1

    def listens(self) -> None:
        """The watches that were deaf tell what there is."""
        for kind in sorted(self.deaf):
            self.deaf.discard(kind)
            for manifest in self.world.all(kind):
                self._saw("MODIFIED", manifest)

    def _saw(self, change: str, manifest: Manifest) -> None:
        kind = manifest["kind"]
        label, ours = OURS
        if kind in self.deaf or kind not in WATCHED:
            return
        if kind != "GoService" and (manifest["metadata"].get("labels") or {}).get(label) != ours:
            return
        if change == "DELETED":
            self._seen.drop(kind, manifest)
        else:
            self._seen.put(kind, manifest)

    async def settle(self, then: str) -> None:
        """Passes until one writes nothing and wants no other at once."""
        self.now += BETWEEN
        self.told.append({"then": then, "at": self.stamp})
        for _ in range(MOST_PASSES):
            before = len(self.told)
            again, raised = None, ""
            try:
                again = await self._operator.reconcile(self.key)
            except ClusterError as error:
                raised = type(error).__name__
            quiet = all(told["call"] in READS for told in self.told[before:])
            self.told.append(
                {
                    "pass": again,
                    "raised": raised,
                    "polls": self.git.wanted,
                    "demands": self.git.demands,
                }
            )
            if quiet and not raised and again != 0:
                return
        raise AssertionError(f"life {self.number} is not settled after: {then}")


def play(given: Given) -> Life:
    """A life from its first day on."""
    life = Life(given)
    asyncio.run(chapters.story(life, whole=given.whole))
    return life


def digests(life: Life) -> dict[str, str]:
    """What is kept of a life."""
    every = {column: hashlib.sha256() for column in COLUMNS}
    for told in life.told:
        line = canonical(told) + b"\n"
        every["calls"].update(line)
        if told.get("call", "get") in READS:
            continue
        every["writes"].update(line)
        if "manifest" not in told:
            continue
        for column, text in parts(told["kind"], told["manifest"]):
            every[column].update(text.encode() + b"\0")
    return {column: found.hexdigest()[:12] for column, found in every.items()}


def parts(kind: str, manifest: str) -> Iterator[tuple[str, str]]:
    """What has a digest of its own, by its column."""
    if kind not in ("ConfigMap", "Job", "Deployment"):
        return
    made = json.loads(manifest)
    notes = made["metadata"].get("annotations", {})
    if kind == "ConfigMap":
        yield "dockerfile", made["data"]["Dockerfile"]
    if kind == "Job":
        yield "inputs", notes["goservice.dev/inputs"]
    if "goservice.dev/template" in notes:
        yield "template", notes["goservice.dev/template"]


def played(number: int) -> str:
    """The row of a life, lived now."""
    try:
        return row(play(lives()[number]))
    except Exception as error:
        error.add_note(f"in life {number} {lives()[number].name}")
        raise


def row(life: Life) -> str:
    """A life's line in the recording, but for its name."""
    calls = sum("call" in told for told in life.told)
    return " ".join([*digests(life).values(), str(calls)])


@cache
def lives() -> tuple[Given, ...]:
    """What every life begins with, as it is stored."""
    stored = json.loads(lzma.decompress((FOLDER / "bodies.json.xz").read_bytes()))
    return tuple(
        Given(
            number,
            each["name"],
            each["body"],
            merged({} if each["alone"] else stored["settings"], each["settings"]),
            each["whole"],
        )
        for number, each in enumerate(stored["lives"])
    )


def merged(tree: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """A tree with another one laid over it."""
    result = dict(tree)
    for key, value in change.items():
        below = result.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        result[key] = merged(below, value) if both and isinstance(below, dict) else value
    return result


@cache
def recorded() -> Mapping[int, str]:
    """The rows of the recording, by the number of the life."""
    lines = (FOLDER / "lives.txt").read_text().splitlines()
    rows = [line.split(" ", 2) for line in lines if not line.startswith("#")]
    return {int(number): kept for number, _, kept in rows}


@cache
def every_row() -> list[str]:
    """The rows of all lives, lived now, in as many processes as there are processors."""
    numbers = [given.number for given in lives()]
    # Whole lives take long and stand together: they are dealt out one by one.
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as processes:
        return list(processes.map(played, numbers, chunksize=4))


# --- worlds as they were left --------------------------------------------------------------------


def settled() -> Iterator[tuple[str, Given, Manifest]]:
    """Name, service and world of every point that was kept."""
    every = lives()
    for left in json.loads(lzma.decompress((FOLDER / "settled.json.xz").read_bytes())):
        given = every[left["life"]]
        yield f"{left['life']} {given.name}: {left['point']}", given, left


def resumed(given: Given, left: Manifest) -> Life:
    """A new operator in a world that was left, before it knows anything from git."""
    life = Life(given, restored(left["objects"], left["owners"], left["version"]))
    life.now = datetime.fromisoformat(left["at"])
    life.settings = left["settings"]
    life.git.sha, life.git.asked_at = left["commit"], left["asked_at"]
    life.restart()
    return life


def leave(given: Given) -> Manifests:
    """A service's worlds at the points where all is settled."""
    life, kept = Life(given), Manifests()

    def keep(point: str) -> None:
        objects, owners, version = dumped(life.world)
        kept.append(
            {
                "life": given.number,
                "point": point,
                "at": life.now.isoformat(),
                "settings": life.settings,
                "commit": life.git.sha,
                "asked_at": life.git.asked_at,
                "objects": json.loads(canonical(objects)),
                "owners": owners,
                "version": version,
            }
        )

    life.keep = keep
    asyncio.run(chapters.settling(life))
    return kept


# --- the command ---------------------------------------------------------------------------------


def record() -> None:
    """Write the recording and the worlds anew: by the old version, never by the new one."""
    lines = [f"# life name {' '.join(COLUMNS)} number-of-calls"]
    for given, kept in zip(lives(), every_row(), strict=True):
        lines.append(f"{given.number} {given.name} {kept}")
    (FOLDER / "lives.txt").write_text("\n".join(lines) + "\n")
    chosen = [given for given in lives() if given.whole][:CHOSEN]
    worlds = [left for given in chosen for left in leave(given)]
    packed = lzma.compress(canonical(worlds), preset=9 | lzma.PRESET_EXTREME)
    (FOLDER / "settled.json.xz").write_bytes(packed)


CHOSEN = 42
"""How many services' worlds are kept: the golden cases and some generated ones."""


def main() -> None:
    """Record, or show a life."""
    parser = argparse.ArgumentParser(description=record.__doc__)
    parser.add_argument("--record", action="store_true", help="write the recording anew")
    parser.add_argument("--show", type=int, metavar="LIFE", help="print every call of a life")
    parser.add_argument("--left", type=int, metavar="POINT", help="print what is written over it")
    asked = parser.parse_args()
    if asked.record:
        record()
    if asked.show is not None:
        given = lives()[asked.show]
        show({"body": given.body, "settings": given.settings, "whole": given.whole})
        show_all(play(given))
    if asked.left is not None:
        name, given, left = list(settled())[asked.left]
        life = resumed(given, left)
        asyncio.run(chapters.resuming(life))
        show({"point": name, "objects": left["objects"]})
        show_all(life)


def show_all(life: Life) -> None:
    """Everything that a life told, and its digests."""
    for told in life.told:
        sent = {"manifest": json.loads(told["manifest"])} if "manifest" in told else {}
        show(told | sent)
    show(digests(life))


def show(told: object) -> None:
    """One document of YAML."""
    plain = json.loads(canonical(told))
    sys.stdout.write("---\n" + yaml.safe_dump(plain, sort_keys=True, width=100))


if __name__ == "__main__":
    main()
