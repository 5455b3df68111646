"""`make bench-bounds`: what the worst input that is allowed costs the operator, beside its bounds.

Each input is filled as far as Kubernetes, git or the CRD let anybody fill it, with texts that nothing
compresses. Kept is what one of them leaves behind, peak what all of them need while they are read (both
by tracemalloc), lag how long others on the event loop wait at the most. A bound on bytes that is broken
ends with exit code 1; what takes too long is marked, and fails nothing: that may be the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gc
import json
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from random import Random
from typing import Any, cast

from kubernetes.aio.client import ApiClient
from typing_extensions import override

from goservice import manifest as manifests
from goservice import names
from goservice.api import resource
from goservice.build import engine, signs
from goservice.cluster import answers
from goservice.cluster.client import LARGE_PAGE_SIZE, KubernetesCluster
from goservice.decide import pod_words
from goservice.decide.observed import Lookup
from goservice.errors import SourceError
from goservice.loop import lookups
from goservice.loop.cache import MOST_TOMBSTONES, Cache
from goservice.loop.lookups import LOOKED_AT
from goservice.loop.words import told
from goservice.manifest import Manifest
from goservice.sources.refs import Refs, packet
from testbed.node import progress

KIB, MIB = 1024, 1024 * 1024
STEP = 8 * KIB
"""Bytes of an answer between which others have their turn: that of sources/git.py."""
LARGEST = 1_400_000
"""Characters of the largest object, JSON and all: etcd takes 1.5 MiB of a request."""
LONGEST_LAG = 0.1
"""Seconds that others on the loop may wait: a probe of the kubelet waits for 1 s."""
SMALL = 0.04
"""Share of the whole that `--small` measures."""

OWNER = {
    "apiVersion": resource.API_VERSION, "kind": resource.KIND, "name": "a", "uid": "s",
    "controller": True, "blockOwnerDeletion": True,
}  # fmt: skip
"""The controller of what a GoService made; anybody may write it."""


@dataclass(frozen=True)
class Figure:
    """What one input cost."""

    input: str
    """What was filled, and how far."""
    count: int
    """How many of them."""
    kept_bytes: int
    """Bytes that each leaves behind."""
    kept_bound: int
    """The most bytes that each may leave behind."""
    peak_bytes: int
    """Bytes that all of them needed at once while they were read, beside what is left behind."""
    peak_bound: int
    """The most bytes that they may need."""
    seconds: float
    """CPU for each, in seconds."""
    seconds_bound: float
    """The most seconds of CPU that each should take on a machine like ours."""
    lag_seconds: float = 0.0
    """How many seconds others on the event loop waited at the most: the longest step that is not divided."""

    @property
    def holds(self) -> bool:
        """Whether the bounds on bytes are kept."""
        return self.kept_bytes <= self.kept_bound and self.peak_bytes <= self.peak_bound

    @property
    def in_time(self) -> bool:
        """Whether the bounds on time are kept."""
        return self.seconds <= self.seconds_bound and self.lag_seconds <= LONGEST_LAG


@dataclass(frozen=True)
class Bounds:
    """The bounds of an input."""

    kept: int
    """Bytes that each may leave behind."""
    peak: int
    """Bytes that all may need at once."""
    seconds: float
    """Seconds of CPU that each should take."""


Work = Callable[[int], Awaitable[Any]]
"""Read one input, in steps; gives what is kept of it."""


async def measured(name: str, count: int, work: Work, bounds: Bounds) -> Figure:
    """Read so many inputs and keep what is kept: once for the time, once for the bytes."""
    begun, worst = time.process_time(), 0.0
    for number in range(count):
        worst = max(worst, await lag_of(partial(work, number)))
    seconds = time.process_time() - begun
    gc.collect()
    tracemalloc.start()
    kept = [await work(number) for number in range(count)]
    _, peak = tracemalloc.get_traced_memory()
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    each = seconds / count
    return Figure(
        name, count, size // count, bounds.kept, peak - size, bounds.peak, each, bounds.seconds, worst
    )  # fmt: skip


async def lag_of(work: Callable[[], Awaitable[Any]]) -> float:
    """How many seconds a neighbour on the loop waits at the most while something is done."""
    worst, over = 0.0, False

    async def neighbour() -> None:
        nonlocal worst
        while not over:
            begun = time.perf_counter()
            await asyncio.sleep(0)
            worst = max(worst, time.perf_counter() - begun)

    task = asyncio.create_task(neighbour())
    await asyncio.sleep(0)
    await work()
    over = True
    await task
    return worst


def at_once(work: Callable[[int], Any]) -> Work:
    """Work that is one step."""

    async def step(number: int) -> Any:
        return work(number)

    return step


# --- objects --------------------------------------------------------------------------------------


def noise(length: int, seed: int) -> str:
    """A text that nothing can compress much."""
    return base64.b64encode(Random(seed).randbytes(length)).decode()[:length]


def metadata(number: int, name: str, **more: Any) -> Manifest:
    """Metadata with our labels, many others and annotations without end."""
    return {
        "name": name, "namespace": "shop", "uid": str(number), "resourceVersion": str(number + 1),
        "labels": {names.SERVICE: "a", names.MANAGED_BY: names.OPERATOR, "x": noise(63, number)},
        "annotations": {"example.com/a": noise(120_000, number), names.COMMIT: noise(60_000, number),
                        f"{resource.GROUP}/b": noise(60_000, number)},
        **more,
    }  # fmt: skip


def pod(number: int, name: str = "", **more: Any) -> Manifest:
    """A pod as large as etcd takes one: long words, many containers."""
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": noise(4096, number)}}
    containers = [
        {"name": f"c{n}", "image": noise(250, n), "state": waiting | {"id": noise(3000, n)}}
        for n in range(60)
    ]
    return {
        "kind": "Pod",
        "metadata": metadata(number, name or f"a-build-{number}", **more),
        "spec": {"containers": [{"env": [{"name": "A", "value": noise(700_000, number)}]}]},
        "status": {"phase": "Pending", "message": noise(4096, number), "containerStatuses": containers},
    }  # fmt: skip


def event(number: int) -> Manifest:
    """An event whose message is a book."""
    return {
        "kind": "Event",
        "metadata": metadata(number, f"e{number}"),
        "reason": "FailedCreate",
        "message": noise(LARGEST - 300_000, number),
    }


def child(kind: str, number: int, name: str, **more: Any) -> Manifest:
    """An object of ours, or that says so, filled up in every part."""
    part = (LARGEST - 300_000) // 3
    filled: Manifest = {
        "data": {"Dockerfile": noise(part, number)}, "binaryData": {"a": noise(2 * part, number)},
    }  # fmt: skip
    if kind != "ConfigMap":
        annotations = {f"a{n}": noise(part, number + n) for n in range(3)}
        filled = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata(number, name, **more), **filled}


def unowned(kind: str, number: int) -> Manifest:
    """An object that only says that it is ours."""
    return child(kind, number, f"a-build-{number}")


def metric(number: int) -> Manifest:
    """A metric with as many labels as the CRD takes."""
    expressions = [
        {"key": f"example.com/{noise(63, number + n)}", "operator": "In",
         "values": [noise(63, 100 * number + 16 * n + v) for v in range(16)]}
        for n in range(4)
    ]  # fmt: skip
    labels = {f"example.com/{noise(63, number + n)}": noise(63, number - n) for n in range(16)}
    selector = {"matchLabels": labels, "matchExpressions": expressions}
    return {"type": "Pods", "pods": {"metric": {"name": noise(253, number), "selector": selector}}}


def service(number: int) -> Manifest:
    """A GoService as large as the CRD takes one; annotations and labels as many as etcd does."""
    each = resource.LONGEST_ENV // 128
    env = [{"name": f"V{n:05}", "value": noise(each - 6, n + number)} for n in range(128)]
    args = [noise(resource.LONGEST_ARGS // 64, n + number) for n in range(64)]
    probe = {"exec": {"command": [noise(1024, n + number) for n in range(32)]}}
    return {
        "kind": resource.KIND,
        "metadata": metadata(number, f"s-{number}"),
        "spec": {
            "env": env, "args": args, "autoscaling": {"metrics": [metric(10 * number + n) for n in range(10)]},
            "probes": {"startup": probe, "readiness": probe, "liveness": probe},
        },
    }  # fmt: skip


def list_of(make: Callable[[int], Manifest], count: int = LOOKED_AT) -> bytes:
    """An API server's answer."""
    return json.dumps({"items": [make(number) for number in range(count)]}).encode()


class Lists(KubernetesCluster):
    """The client, before an API server that has one page, as often as it is asked for."""

    def __init__(self, body: bytes, pages: int) -> None:
        super().__init__(cast(ApiClient, None))
        self._body = body
        self._many = pages
        self._sent = 0

    @override
    async def _request(self, *_: Any, **__: Any) -> Manifest:
        """A page as it comes: bytes of its own, decoded."""
        self._sent += 1
        await asyncio.sleep(0)
        page = answers.decoded("list", bytes(bytearray(self._body)))
        return {**page, "metadata": {"continue": "more" if self._sent % self._many else ""}}


def looked_at(body: bytes, pages: int = 1, **lookup: Any) -> Work:
    """A question, as a pass asks it: what is kept of its answer."""
    server = Lists(body, pages)

    async def ask(_: int) -> Any:
        return await lookups.answer(server, Lookup("Pod", "shop", **lookup))

    return ask


class Watched:
    """A cache that is filled as the watches do: each object is decoded, kept and let go."""

    def __init__(self, kind: str, make: Callable[[int], Manifest]) -> None:
        self._kind = kind
        self._make = make
        self._cache = Cache()

    async def __call__(self, number: int) -> Any:
        """Keep one more; the first call begins anew."""
        if not number:
            self._cache = Cache()
        self._cache.put(self._kind, self._make(number))
        return self._cache


async def tombstones(number: int) -> Any:
    """Twice as many deletions as are remembered."""
    cache = Cache()
    for one in range(2 * MOST_TOMBSTONES):
        gone = {"namespace": "shop", "name": f"job-{one}", "uid": f"{number}-{one:036}"}
        cache.drop("Job", {"metadata": gone | {"resourceVersion": str(one + 1)}})
        if one % 100 == 0:
            await asyncio.sleep(0)
    return cache


# --- git servers ----------------------------------------------------------------------------------

HEAD = packet("# service=git-upload-pack\n") + b"0000"
"""How an advertisement begins."""
SHA = "a" * 40
"""A commit."""


def advertised(body: bytes) -> Work:
    """Read an answer of a git server of protocol 0, in the steps of sources/git.py."""
    return partial(read_refs, body, Refs.feed)


def listed(body: bytes) -> Work:
    """Read a server's answer to the question of protocol 2."""
    return partial(read_refs, body, Refs.listed)


async def read_refs(body: bytes, feed: Callable[[Refs, bytes], bool], _: int) -> Any:
    """What is kept of an answer."""
    refs = Refs("nowhere")
    try:
        for start in range(0, len(body), STEP):
            if feed(refs, body[start : start + STEP]):
                break
            await asyncio.sleep(0)
    except (SourceError, ValueError):
        pass
    return refs


# --- texts ----------------------------------------------------------------------------------------


def job(number: int) -> Manifest:
    """A build's Job that has failed."""
    ended = {"type": "Failed", "status": "True"}
    return {"metadata": {"name": f"j{number}", "uid": str(number)}, "status": {"conditions": [ended]}}  # fmt: skip


def failed(text: str) -> Manifest:
    """The pod of a build that ended with these words."""
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": text}}
    return {"metadata": {}, "status": {"initContainerStatuses": [{"name": "build", "state": ended}]}}  # fmt: skip


def judged(text: str) -> Work:
    """What the last words of a build come to; each time as if they were new."""
    kaniko = engine.ENGINES["Kaniko"]

    def once(number: int) -> Any:
        return kaniko.outcome(job(number), failed(f"{number}{text}"[:4096]))

    def anew(number: int) -> Any:
        signs.first_match.cache_clear()
        return once(number)

    return at_once(anew)


async def log_lines(body: bytes, _: int) -> Any:
    """Read a log, of which one line after the other is shown."""

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), STEP):
            yield body[start : start + STEP]
            await asyncio.sleep(0)

    longest = ""
    async for line in answers.lines(chunks()):
        longest = max(longest, line, key=len)
    return longest


# --- all of them ----------------------------------------------------------------------------------


async def figures(size: float) -> AsyncIterator[Figure]:
    """Every input; `size` is the share of the whole."""
    many = max(2, int(50 * size))
    # A page is held as the bytes that came, as their text and decoded, and there is some room.
    page = 7 * LARGE_PAGE_SIZE * LARGEST // 2
    one_page = Bounds(LOOKED_AT * 24 * KIB, page, 1.0)
    yield await measured("a question: 20 pods of 1.3 MiB", 1, looked_at(list_of(pod)), one_page)
    emoji = list_of(lambda n: pod(n) | {"status": {"message": "🙂" * 4096, "reason": "🙂" * 9000}})
    wide = Bounds(LOOKED_AT * 64 * KIB, page, 1.0)
    yield await measured("a question: 20 pods with words of emoji", 1, looked_at(emoji), wide)
    few = Bounds(LOOKED_AT * 6 * KIB, page, 1.0)
    yield await measured("a question: 20 events of 1.3 MiB", 1, looked_at(list_of(event)), few)
    of_a_job = list_of(lambda n: pod(n, ownerReferences=[OWNER | {"uid": f"j{n % 2}"}]))
    ends = looked_at(of_a_job, pages=max(2, int(50 * size)), newest_of=("j0", "j1"))
    two = Bounds(64 * KIB, page, 20.0)
    yield await measured(f"a build's end among {20 * max(2, int(50 * size))} pods", 1, ends, two)
    for title, kind, make, kept in objects():
        held = Bounds(kept, 4 * LARGEST, 0.25)
        yield await measured(title, many, Watched(kind, make), held)
    deletions = Bounds(10 * MIB, 4 * MIB, 5.0)
    yield await measured(f"{2 * MOST_TOMBSTONES} deletions", 1, tombstones, deletions)
    length = int(15 * MIB * size)
    answer = Bounds(64 * KIB, MIB, 5.0)
    for title, work in git_answers(length).items():
        yield await measured(f"{length // KIB} KiB of {title}", 1, work, answer)
    words = Bounds(16 * KIB, MIB, 0.05)
    for piece in ("a.go:1:1: ", "go: a@b: ", "x", " ", "undefined", "\x1b[", "\x90", "error "):
        title = f"last words of a build: {piece!r} again and again"
        yield await measured(title, 3, judged(piece * 4096), words)
    crowd = [told(pod(number)) for number in range(LOOKED_AT)]
    yield await measured("20 pods in trouble, told", 3, at_once(lambda _: pod_words.look(crowd)), words)  # fmt: skip
    probes = [f'Readiness probe failed: Get "{"x" * n}' + "1.1.1.1" * 140 for n in range(20)]
    yield await measured("20 probe messages", 3, at_once(lambda _: pod_words.from_probe(probes, 80)), words)  # fmt: skip
    codes = "\x1b[" + "0" * 64 + "\x1b]" + "\x90" * 500
    yield await measured("64 KiB of escape codes", 3, at_once(lambda _: manifests.clean((codes * 200)[: 64 * KIB])), Bounds(128 * KIB, MIB, 0.25))  # fmt: skip
    for title, body in (("one line", b"x"), ("empty lines", b"\n"), ("two bytes a line", b"x\n")):
        length = int((64 if title == "one line" else 4) * MIB * size)
        line = partial(log_lines, body * (length // len(body)))
        shown = Bounds(256 * KIB, 2 * MIB, 20.0)
        yield await measured(f"a log of {length // KIB} KiB, {title}", 1, line, shown)


def objects() -> Iterator[tuple[str, str, Callable[[int], Manifest], int]]:
    """Objects in the cache: what they are, their kind, one of them, and the bytes that may be kept."""
    ours: Mapping[str, Any] = {"ownerReferences": [OWNER]}
    of_a_job: Mapping[str, Any] = {"ownerReferences": [OWNER | {"kind": "Job"}]}
    name = 4 * KIB
    for kind in ("ConfigMap", "Job", "Deployment", "Service", "Pod"):
        yield f"{kind}s of 1.3 MiB that no service made", kind, partial(unowned, kind), name
    yield "ConfigMaps of 1.3 MiB that a service made", "ConfigMap", lambda n: child("ConfigMap", n, f"a-build-{n}", **ours), 8 * KIB  # fmt: skip
    yield "Jobs of 1.3 MiB that a service made", "Job", lambda n: child("Job", n, f"a-build-{n}", **ours), 8 * KIB  # fmt: skip
    yield "Deployments of another name with a service's uid", "Deployment", lambda n: child("Deployment", n, f"b{n}", **ours), name  # fmt: skip
    yield "Deployments that others fill, of a service each", "Deployment", lambda n: child("Deployment", n, "a", **ours, namespace=f"n{n}"), LARGEST  # fmt: skip
    yield "build pods of 1.3 MiB", "Pod", lambda n: pod(n, **of_a_job), 24 * KIB
    yield "GoServices as large as the CRD takes them", resource.KIND, service, 704 * KIB


def git_answers(length: int) -> Mapping[str, Work]:
    """What a git server may answer, by what it is of."""
    line = packet(f"{SHA} refs/heads/{'b' * 20}\n")
    peeled = packet(f"{SHA} refs/tags/{'b' * 20} peeled:{SHA}\n")
    long = packet(f"{SHA} refs/heads/{'b' * 60_000}\n")
    tiny = b"0005x" * (length // 5)
    return {
        "5-byte packets": advertised(HEAD + tiny),
        "ordinary refs": advertised(HEAD + line * (length // len(line))),
        "refs of 60 KB each": advertised(HEAD + long * (length // len(long))),
        "5-byte packets, protocol 2": listed(tiny),
        "delimiters, protocol 2": listed(b"0001" * (length // 4)),
        "peeled tags, protocol 2": listed(peeled * (length // len(peeled))),
    }


def row(figure: Figure) -> str:
    """One line of the table."""
    verdict = "  BROKEN" if not figure.holds else "" if figure.in_time else "  slow"
    return (
        f"{figure.input:50}"
        f" {figure.kept_bytes / KIB:8.1f} of {figure.kept_bound // KIB:5} KiB kept each,"
        f" peak {figure.peak_bytes / MIB:5.1f} of {figure.peak_bound / MIB:5.1f} MiB,"
        f" {figure.seconds * 1000:8.1f} of {figure.seconds_bound * 1000:7.0f} ms of CPU each,"
        f" lag {figure.lag_seconds * 1000:5.1f} of {LONGEST_LAG * 1000:.0f} ms{verdict}"
    )


async def report(size: float, output: str) -> bool:
    """Measure and print; say whether the bounds on bytes hold."""
    found = []
    async for figure in figures(size):
        found.append(figure)
        if output == "text":
            progress.say(row(figure))
    if output == "json":
        shown = [asdict(one) | {"holds": one.holds, "inTime": one.in_time} for one in found]
        sys.stdout.write(json.dumps(shown) + "\n")
    return all(figure.holds for figure in found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="make bench-bounds", description=__doc__)
    parser.add_argument("--small", action="store_true", help="a 25th of it, as CI does")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    given = parser.parse_args()
    if not asyncio.run(report(SMALL if given.small else 1.0, given.output)):
        sys.exit(1)


if __name__ == "__main__":
    main()
