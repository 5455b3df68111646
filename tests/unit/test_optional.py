"""Kinds that a cluster may not serve: their rows, their condition, and how they come and go."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import kopf
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from goservice import errors, metrics
from goservice.api import resource
from goservice.api.conditions import Type
from goservice.cluster.kinds import access_to, kinds_of, path, watched
from goservice.decide import plan
from goservice.decide.observed import Observed
from goservice.decide.writes import Apply, Delete, Plan
from goservice.manifest import find_condition
from goservice.objects.children import Child, Upkeep
from goservice.watch import operator as operator_module
from goservice.watch.liveness import Watches
from goservice.watch.login import session
from goservice.watch.operator import Operator
from testbed.inmemory.world import World
from tests.support import factories as f
from tests.support import gadget

ABSENT = frozenset({"Gadget"})
KEY = ("shop", "checkout")
GADGETS = "/apis/gadgets.example.com/v1/gadgets"


def pinned(**spec: Any) -> resource.GoService:
    """A service that needs no build."""
    image = {"repository": "registry.example.com/shop/checkout", "digest": f.DIGEST}
    return f.service(image=image, **spec)


def decide(service: resource.GoService, observed: Observed, seconds: float = 0) -> Plan:
    return plan.decide(service, observed, f.SETTINGS, f.later(seconds), gadget.CHILDREN)


def wrote(decided: Plan) -> list[str]:
    """Which Gadgets are applied and deleted."""
    found = []
    for write in decided.writes:
        if isinstance(write, Apply) and write.manifest["kind"] == "Gadget":
            found.append("apply")
        if isinstance(write, Delete) and write.kind == "Gadget":
            found.append("delete")
    return found


def said(decided: Plan) -> dict[str, Any]:
    assert decided.status is not None
    return dict(find_condition(decided.status, gadget.SAYS))


def live_gadget(service: resource.GoService) -> dict[str, Any]:
    [made] = [
        write.manifest
        for write in decide(service, f.observed()).writes
        if isinstance(write, Apply) and write.manifest["kind"] == "Gadget"
    ]
    return f.live(made)


# --- a pass ---------------------------------------------------------------------------------------


def test_a_row_that_is_on_is_applied_and_deleted_as_any_other() -> None:
    assert wrote(decide(pinned(), f.observed())) == ["apply"]
    assert said(decide(pinned(), f.observed())) == {}
    there = live_gadget(pinned())
    assert wrote(decide(pinned(), f.observed(there))) == []
    assert wrote(decide(pinned(ports=[]), f.observed(there))) == ["delete"]


def test_a_row_that_is_off_is_neither_applied_nor_deleted() -> None:
    there = live_gadget(pinned())
    for service in (pinned(), pinned(ports=[])):
        for observed in (f.observed(absent=ABSENT), f.observed(there, absent=ABSENT)):
            assert wrote(decide(service, observed)) == []


def test_who_asks_for_what_is_not_served_reads_so_and_is_held_up_by_nothing() -> None:
    with_it, without = (decide(pinned(), f.observed(absent=absent)) for absent in ((), ABSENT))
    found = said(without)
    assert (found["status"], found["reason"]) == ("False", "APINotServed")
    assert found["message"] == (
        "The cluster does not serve Gadget of gadgets.example.com/v1, which the spec asks for;"
        " Gadget shop/checkout is made once it does."
    )
    assert with_it.status is not None
    assert without.status is not None
    others = [c for c in without.status["conditions"] if c["type"] != gadget.SAYS]
    assert others == with_it.status["conditions"]
    rest = [
        w for w in with_it.writes if not (isinstance(w, Apply) and w.manifest["kind"] == "Gadget")
    ]
    assert list(without.writes) == rest


def test_who_does_not_ask_for_it_reads_nothing() -> None:
    assert said(decide(pinned(ports=[]), f.observed(absent=ABSENT))) == {}


def test_while_there_is_nothing_to_run_nothing_is_missing() -> None:
    assert said(decide(f.service(), f.observed(absent=ABSENT))) == {}


def test_what_is_missing_takes_the_place_of_what_else_there_is_to_say_of_it() -> None:
    rows = tuple(
        dataclasses.replace(child, optional=Type.AUTOSCALED)
        if child.kind.kind == "HorizontalPodAutoscaler"
        else child
        for child in gadget.REQUIRED
    )
    scaled = pinned(
        autoscaling={"minReplicas": 2, "maxReplicas": 4},
        resources={"requests": {"cpu": "100m"}},
    )
    observed = f.observed(absent=frozenset({"HorizontalPodAutoscaler"}))
    decided = plan.decide(scaled, observed, f.SETTINGS, f.NOW, rows)
    assert decided.status is not None
    [shown] = [c for c in decided.status["conditions"] if c["type"] == "Autoscaled"]
    assert (shown["status"], shown["reason"]) == ("False", "APINotServed")


def test_only_what_is_applied_and_deleted_may_be_optional() -> None:
    for upkeep in Upkeep:
        if upkeep is Upkeep.APPLIED:
            continue
        with pytest.raises(AssertionError):
            Child(
                gadget.KIND, "app", gadget.ROW.verbs, upkeep, optional=gadget.SAYS, why="It is not."
            )


# --- the operator ---------------------------------------------------------------------------------


@dataclasses.dataclass
class Bed:
    """An operator with everything that it starts, on a cluster that serves no Gadget at first."""

    operator: Operator
    cluster: World

    async def until(self, found: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not found():  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0)

    def open_watches(self) -> None:
        """kopf lists and watches whatever is not watched yet."""
        watches = self.operator.watches
        for kind in watches.missing():
            for where in watches.paths(kind):
                watches.listed(where)
                watches.opened(where)

    async def started(self) -> None:
        await self.until(lambda: self.operator._looked.is_set())
        self.open_watches()
        await self.until(lambda: not self.operator.ready())

    def look(self) -> None:
        """Let the operator look at once, as after a minute."""
        self.operator.watches._doubted.set()

    async def idle(self) -> None:
        """Let every pass that is due end."""
        for _ in range(200):
            await asyncio.sleep(0)
        await self.until(lambda: not self.operator.queue.depth and not self.operator.queue.busy)

    def said(self) -> dict[str, Any]:
        found = self.cluster.find("GoService", *KEY)
        return dict(find_condition((found or {}).get("status") or {}, gadget.SAYS))


@asynccontextmanager
async def bed(
    children: tuple[Child, ...] = gadget.CHILDREN, *, absent: frozenset[str] = ABSENT
) -> AsyncIterator[Bed]:
    cluster = World(access_to(children), kinds_of(children))
    cluster.absent = set(absent)
    body = f.body()
    del body["metadata"]["uid"]
    body["spec"]["image"]["digest"] = f.DIGEST
    cluster.add(body)
    counters = metrics.Metrics()
    subject = Operator(f.SETTINGS, cluster, counters, children=children)

    def tell(event: str, manifest: dict[str, Any]) -> None:
        if manifest["kind"] in subject.watches.kinds:
            subject.saw(manifest["kind"], event, manifest)

    cluster.on_change(tell)
    tasks = subject.start()
    try:
        yield Bed(subject, cluster)
    finally:
        subject.queue.shutdown()
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await subject.sources.close()
        assert not [end for end in ended if isinstance(end, Exception)]


async def test_without_an_optional_row_nothing_is_asked() -> None:
    async with bed(gadget.REQUIRED, absent=frozenset()) as b:
        await b.started()
        await b.idle()
        assert not [verb for verb, _ in b.cluster.requests if verb == "serves"]
        assert b.operator.watches.kinds == watched(gadget.REQUIRED)


async def test_a_kind_that_is_not_there_is_not_waited_for_nor_listed() -> None:
    async with bed() as b:
        await b.started()
        assert "Gadget" not in b.operator.watches.kinds
        await b.idle()
        assert b.said()["reason"] == "APINotServed"
        assert b.cluster.requests["list", "Gadget"] == 0
        assert b.cluster.requests["apply", "Gadget"] == 0
        assert b'kind="Gadget"' not in b.operator._metrics.text()


async def test_a_kind_that_is_there_at_the_start_is_waited_for_and_listed() -> None:
    async with bed(absent=frozenset()) as b:
        await b.until(lambda: b.operator._looked.is_set())
        assert b.operator.ready().endswith(", Gadget")
        await b.started()
        await b.idle()
        assert b.cluster.requests["list", "Gadget"] == 1
        assert b.cluster.find("Gadget", *KEY)
        assert b.said() == {}


async def test_the_workers_do_not_begin_before_the_first_look() -> None:
    async with bed() as b:
        answers = iter([errors.Unavailable("no answer")])

        def fail(request: Any) -> None:
            if request.verb == "serves":
                for error in answers:
                    raise error

        b.cluster.before = fail
        b.open_watches()
        await b.until(lambda: b.cluster.requests["serves", "Gadget"] == 1)
        for _ in range(100):
            await asyncio.sleep(0)
        assert b.operator.ready() == "the caches are not filled yet"
        await b.until(lambda: b.cluster.requests["serves", "Gadget"] == 2)
        await b.until(lambda: not b.operator.ready())


async def test_a_kind_that_comes_is_watched_listed_and_only_then_made() -> None:
    async with bed() as b:
        await b.started()
        await b.idle()
        b.cluster.absent.clear()
        b.operator.watches.renewed.clear()
        b.look()
        await b.until(lambda: "Gadget" in b.operator.watches.kinds)
        assert b.operator.watches.renewed.is_set(), "kopf is told"
        await b.idle()
        assert b.operator.ready() == "", "it works on meanwhile"
        assert b.cluster.find("Gadget", *KEY) is None, "what is there already is not known yet"
        b.open_watches()
        await b.until(lambda: b.cluster.find("Gadget", *KEY))
        await b.idle()
        assert b.cluster.requests["list", "Gadget"] == 1
        assert b.cluster.requests["list", "Job"] == 1, "the others are not listed again"
        assert b.said() == {}
        assert b'watch_silence_seconds{kind="Gadget"}' in b.operator._metrics.text()
        b.cluster.edit("Gadget", *KEY, lambda live: live["spec"].update(size=7))
        await b.idle()
        assert b.cluster.all("Gadget")[0]["spec"] == {"size": 1}


async def test_a_kind_that_goes_is_left_alone_at_once_and_every_service_is_told() -> None:
    async with bed(absent=frozenset()) as b:
        await b.started()
        await b.idle()
        assert not b.operator.watches.not_found("/apis/batch/v1/jobs"), "that one must be there"
        b.cluster.absent = set(ABSENT)
        assert b.operator.watches.not_found(GADGETS)
        await b.until(lambda: "Gadget" not in b.operator.watches.kinds)
        writes = len(b.cluster.writes)
        await b.idle()
        assert b.said()["reason"] == "APINotServed"
        assert b.cluster.writes[writes:] == [("apply_status", "GoService", "checkout")]
        assert b.operator.cache.get("Gadget", KEY) is None
        assert b.operator.ready() == b.operator.healthy() == ""
        assert b'kind="Gadget"} ' not in silences(b.operator)
        b.operator.saw("Gadget", "MODIFIED", b.cluster.all("Gadget")[0])
        assert b.operator.cache.get("Gadget", KEY) is None, "the last words of a watch"


def silences(operator: Operator) -> bytes:
    lines = operator._metrics.text().splitlines()
    return b"\n".join(line for line in lines if b"watch_silence_seconds{" in line)


async def test_a_refusal_by_a_kind_on_its_way_out_is_forgotten_with_it() -> None:
    """A definition that is being deleted takes nothing new: the service must not stall for a minute."""
    async with bed(absent=frozenset()) as b:
        await b.started()
        await b.idle()

        def refuse(request: Any) -> None:
            if (request.verb, request.kind) == ("apply", "Gadget"):
                raise errors.Invalid("create not allowed while it is terminating", status=405)

        b.cluster.before = refuse
        b.cluster.remove("Gadget", *KEY)
        await b.until(lambda: b.operator.reconciler._memory[KEY].refusal)
        b.cluster.absent = set(ABSENT)
        b.look()
        await b.until(lambda: b.said())
        assert b.operator.reconciler._memory[KEY].refusal == ""
        [live] = b.cluster.all("GoService")
        assert find_condition(live["status"], Type.READY)["reason"] != "ClusterRefused"


async def test_a_kind_that_goes_before_it_is_listed_holds_up_no_later_list() -> None:
    async with bed() as b:
        await b.started()
        b.cluster.absent.clear()
        b.look()
        await b.until(lambda: "Gadget" in b.operator.watches.kinds)
        b.cluster.absent = set(ABSENT)
        b.open_watches()
        await b.until(lambda: b.cluster.requests["list", "Gadget"] == 1)
        b.look()
        await b.until(lambda: "Gadget" not in b.operator.watches.kinds)
        before = b.cluster.requests["list", "Job"]
        for told in (b.operator.watches.listed, b.operator.watches.opened):
            told("/apis/batch/v1/jobs")
        await b.until(lambda: b.cluster.requests["list", "Job"] > before)
        assert b.cluster.requests["list", "Gadget"] == 1


async def test_an_answer_that_fails_changes_nothing() -> None:
    async with bed(absent=frozenset()) as b:
        await b.started()
        await b.idle()

        def fail(request: Any) -> None:
            if request.verb == "serves":
                raise errors.Unavailable("no answer")

        b.cluster.before = fail
        before = b.cluster.requests["serves", "Gadget"]
        b.look()
        await b.until(lambda: b.cluster.requests["serves", "Gadget"] > before)
        await b.idle()
        assert "Gadget" in b.operator.watches.kinds
        assert b.said() == {}


def test_a_look_is_due_each_minute() -> None:
    assert operator_module.LOOK_FOR_APIS_SECONDS == 60


async def test_a_look_comes_by_itself() -> None:
    watches = Watches(["Job"])
    async with asyncio.timeout(5):
        await watches.next_doubt(0.01)


# --- the watches ----------------------------------------------------------------------------------


async def test_every_watch_is_open_only_with_those_that_were_added_meanwhile() -> None:
    watches = Watches(["Job"], known=kinds_of(gadget.CHILDREN))
    waiting = asyncio.create_task(watches.all_open())
    await asyncio.sleep(0)
    watches.add("Gadget")
    watches.opened("/apis/batch/v1/jobs")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    assert watches.missing() == ["Gadget"]
    watches.remove("Gadget")
    async with asyncio.timeout(5):
        await waiting


async def test_what_was_listed_again_and_then_went_is_not_listed() -> None:
    watches = Watches(["Job"], known=kinds_of(gadget.CHILDREN))
    watches.add("Gadget")
    watches.listed(GADGETS)
    watches.opened(GADGETS)
    watches.remove("Gadget")
    assert watches.take_relisted() == set()
    assert path(gadget.KIND, None, "") == GADGETS


@pytest.mark.parametrize("optional", [True, False])
async def test_to_kopf_a_404_of_a_kind_that_may_go_is_a_connection_that_broke(
    optional: bool,
) -> None:
    """kopf ends the operator after a 404: for what must be there that is right."""
    app = web.Application()
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        watches = Watches([] if optional else ["Gadget"], known=kinds_of(gadget.CHILDREN))
        if optional:
            watches.add("Gadget")
        where = kopf.ConnectionInfo(server=url)
        async with session(where, watches, lambda: "now").aiohttp_session as client:
            if optional:
                with pytest.raises(aiohttp.ClientConnectionError, match="not served any more"):
                    await client.get(f"{url}{GADGETS}?watch=true")
            else:
                async with client.get(f"{url}{GADGETS}?watch=true") as answer:
                    assert answer.status == 404
