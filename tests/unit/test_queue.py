"""The work queue, with a clock that the test moves."""

import asyncio

import pytest

from goservice.loop.queue import ClosedError, Queue
from goservice.metrics import Metrics


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def queue(clock: Clock | None = None, chance: float = 0.5) -> Queue[str]:
    return Queue(clock=clock or Clock(), chance=lambda: chance)


def test_many_events_are_one_pass_in_the_order_of_the_first() -> None:
    q = queue()
    for key in "abab":
        q.add(key)
    assert (q.depth, q.take(), q.take(), q.take()) == (2, "a", "b", None)


def test_a_busy_key_is_never_handed_out_twice_but_comes_back() -> None:
    q = queue()
    q.add("a")
    assert q.take() == "a"
    q.add("a")
    q.add("a")
    assert q.take() is None
    assert q.busy == 1
    q.done("a")
    assert q.take() == "a"
    q.done("a")
    assert q.take() is None


def test_of_two_delays_the_earlier_is_kept() -> None:
    clock = Clock()
    q = queue(clock)
    q.add_after("a", 60)
    q.add_after("a", 10)
    q.add_after("a", 30)
    assert q.next_due() == 10
    clock.now += 10
    assert q.take() == "a"
    q.done("a")
    clock.now += 100
    assert q.take() is None
    assert q.next_due() is None


def test_no_delay_is_now() -> None:
    q = queue()
    q.add_after("a", 0)
    assert q.take() == "a"


def test_a_delayed_key_that_comes_due_while_busy_runs_afterwards() -> None:
    clock = Clock()
    q = queue(clock)
    q.add("a")
    q.take()
    q.add_after("a", 5)
    clock.now += 6
    assert q.take() is None
    q.done("a")
    assert q.take() == "a"


def test_backoff_doubles_to_five_minutes_and_is_forgotten() -> None:
    q = queue()
    delays = [q.retry("a") for _ in range(12)]
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    q.forget("a")
    assert q.retry("a") == 1
    assert q.retry("b") == 1
    assert q.retry("b", at_least=30) == 30


def test_backoff_never_overflows() -> None:
    q = queue()
    assert [q.retry("a") for _ in range(2000)][-1] == 300


@pytest.mark.parametrize(("chance", "delay"), [(0.0, 0.8), (0.999999, 1.2)])
def test_backoff_has_jitter(chance: float, delay: float) -> None:
    assert queue(chance=chance).retry("a") == pytest.approx(delay, abs=1e-3)


def test_the_oldest_pass_is_known() -> None:
    clock = Clock()
    q = queue(clock)
    assert q.oldest_busy() == 0
    q.add("a")
    q.take()
    clock.now += 7
    q.add("b")
    q.take()
    clock.now += 1
    assert q.oldest_busy() == 8
    q.done("a")
    assert q.oldest_busy() == 1


async def test_a_sleeping_worker_wakes_for_a_key_and_for_a_delay() -> None:
    q: Queue[str] = Queue()
    waiting = asyncio.create_task(q.get())
    await asyncio.sleep(0)
    q.add("a")
    assert await waiting == "a"
    waiting = asyncio.create_task(q.get())
    await asyncio.sleep(0)
    q.add_after("b", 30)
    await asyncio.sleep(0)
    q.add_after("b", 0.01)
    async with asyncio.timeout(2):
        assert await waiting == "b"


async def test_many_workers_share_the_keys() -> None:
    q: Queue[int] = Queue()
    done: list[int] = []
    all_done = asyncio.Event()

    async def work() -> None:
        while True:
            key = await q.get()
            await asyncio.sleep(0)
            done.append(key)
            q.done(key)
            if len(done) == 50:
                all_done.set()

    workers = [asyncio.create_task(work()) for _ in range(4)]
    for key in range(50):
        q.add(key)
    async with asyncio.timeout(2):
        await all_done.wait()
    assert sorted(done) == list(range(50))
    q.shutdown()
    assert await asyncio.gather(*workers, return_exceptions=True)
    assert all(isinstance(w.exception(), ClosedError) for w in workers)


async def test_shutdown_hands_out_nothing_and_waits_for_what_is_busy() -> None:
    q: Queue[str] = Queue()
    q.add("a")
    assert await q.get() == "a"
    q.add("b")
    q.add("a")
    q.shutdown()
    q.add("c")
    q.add_after("c", 1)
    assert q.closed
    with pytest.raises(ClosedError):
        await q.get()
    assert q.take() is None
    assert not await q.drain(0.01)
    draining = asyncio.create_task(q.drain(5))
    await asyncio.sleep(0)
    q.done("a")
    assert await draining
    assert q.depth == 0


def test_waiting_is_measured() -> None:
    clock, metrics = Clock(), Metrics()
    q: Queue[str] = Queue(clock=clock, metrics=metrics)
    q.add("a")
    assert b"goservice_operator_queue_depth 1.0" in metrics.text()
    clock.now += 3
    q.take()
    assert b"goservice_operator_queue_duration_seconds_sum 3.0" in metrics.text()
    assert b"goservice_operator_queue_depth 0.0" in metrics.text()
