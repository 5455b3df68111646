"""The work queue, with a clock that the test moves."""

import asyncio

import pytest

from goservice.loop.queue import SENDING_AT_ONCE, SENDING_EACH, ClosedError, Queue
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


def sending_passes(q: Queue[str], clock: Clock, seconds: int) -> list[float]:
    """When a key has a pass whose every pass sends something, and is undone at once."""
    at = []
    end = clock.now + seconds
    q.add("a")
    while clock.now < end:
        if q.take() == "a":
            at.append(clock.now)
            q.sends("a")
            q.sends("a")
            q.add("a")
            q.done("a")
        else:
            clock.now += 1
    return at


def test_who_keeps_sending_is_slowed_down_and_others_are_not() -> None:
    clock = Clock()
    q = queue(clock)
    at = sending_passes(q, clock, 3590)
    assert at[: SENDING_AT_ONCE + 1] == [1000.0] * SENDING_AT_ONCE + [1000.0 + SENDING_EACH]
    assert len(at) <= SENDING_AT_ONCE + 3600 / SENDING_EACH
    q.add("b")
    assert q.take() == "b"
    q.add_after("a", 1)
    clock.now += 2
    assert q.take() is None, "a delay of its own does not come before its turn"


def test_who_has_rested_may_send_as_much_again_and_is_forgotten() -> None:
    clock = Clock()
    q = queue(clock)
    sending_passes(q, clock, 60)
    clock.now += SENDING_AT_ONCE * SENDING_EACH + 60
    at = sending_passes(q, clock, 10)
    assert len(at) == SENDING_AT_ONCE
    clock.now += 10_000
    q.add("b")
    q.take()
    q.sends("b")
    q.done("b")
    assert list(q._paid_at) == ["b"]


def test_passes_that_send_nothing_are_never_slowed_down() -> None:
    q = queue()
    for _ in range(1000):
        q.add("a")
        assert q.take() == "a"
        q.done("a")


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
