"""Who gets the next build slot: namespaces take turns, and nobody starves."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from goservice.decide.observed import Fleet
from goservice.loop.build_slots import BuildSlots
from goservice.manifest import Key


class Platform:
    """The queue, with builds that start when they may and end when the test says so."""

    def __init__(self, most: int, most_here: int) -> None:
        self.most, self.most_here = most, most_here
        self.running: dict[Key, int] = {}
        self.woken: list[Key] = []
        self.slots = BuildSlots(most, most_here, lambda: self.running, self.woken.append)
        self.started: list[Key] = []

    def ask(self, key: Key) -> bool:
        """One pass of a service that wants a build: it starts, or waits."""
        fleet = self.slots.fleet(key)
        full = fleet.running + fleet.ahead >= self.most
        if full or fleet.running_here + fleet.ahead_here >= self.most_here:
            self.slots.wait(key)
            return False
        self.slots.start(key)
        self.running[key] = 1
        self.slots.started(key)
        self.started.append(key)
        return True

    def end(self, key: Key) -> None:
        """A build ends: its Job's event wakes those who may be next."""
        del self.running[key]
        for waiting in self.slots.next():
            self.ask(waiting)


def services(namespace: str, count: int) -> list[Key]:
    return [(namespace, f"s{number}") for number in range(count)]


def test_a_thousand_of_one_namespace_hold_up_nobody_of_another() -> None:
    platform = Platform(most=4, most_here=2)
    for key in services("crowd", 1000):
        platform.ask(key)
    assert len(platform.running) == 2
    assert platform.ask(("quiet", "one")), "half of the places are not the crowd's to take"


def test_where_a_namespace_may_have_all_another_is_next_all_the_same() -> None:
    platform = Platform(most=2, most_here=2)
    for key in services("crowd", 1000):
        platform.ask(key)
    assert not platform.ask(("quiet", "one"))
    platform.end(("crowd", "s0"))
    assert platform.started[-1] == ("quiet", "one")


def test_within_a_namespace_who_came_first_goes_first() -> None:
    platform = Platform(most=1, most_here=1)
    for key in services("shop", 5):
        platform.ask(key)
    for number in range(4):
        platform.end(("shop", f"s{number}"))
    assert platform.started == services("shop", 5)


def test_who_waits_is_told_how_many_are_before_it() -> None:
    platform = Platform(most=4, most_here=2)
    for key in services("shop", 9):
        platform.ask(key)
    platform.ask(("other", "one"))
    assert platform.slots.fleet(("shop", "s8")) == Fleet(
        running=3, ahead=0, running_here=2, ahead_here=0, before=6
    )


def test_a_build_that_gives_way_holds_no_place_until_it_runs() -> None:
    platform = Platform(most=2, most_here=2)
    blocked = services("shop", 2)
    for key in blocked:
        assert platform.ask(key)
    assert not platform.ask(("shop", "healthy"))
    platform.slots.give_way(blocked[0], True)
    assert platform.woken == [("shop", "healthy")]
    platform.slots.give_way(blocked[0], True)
    assert platform.woken == [("shop", "healthy")], "told once"
    assert platform.ask(("shop", "healthy"))
    platform.slots.give_way(blocked[0], False)
    assert platform.slots.fleet(("shop", "another")).running == 3, "it runs, and counts"


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_the_bounds_hold_and_nobody_starves(seed: int) -> None:
    chance = Random(seed)
    most = chance.randint(1, 6)
    platform = Platform(most, chance.randint(1, most))
    asked: list[Key] = []
    for step in range(300):
        if chance.random() < 0.6 and step < 200:
            key = (chance.choice("aaaaaabc"), f"s{step}")
            asked.append(key)
            platform.ask(key)
        elif platform.running:
            platform.end(chance.choice(sorted(platform.running)))
        held = Counter(namespace for namespace, _ in platform.running)
        assert held.total() <= most
        assert all(count <= platform.most_here for count in held.values())
        if held.total() < most:
            open_to = {n for n in "abc" if held[n] < platform.most_here}
            assert not [key for key in platform.slots.next() if key[0] in open_to]
    while platform.running:
        platform.end(next(iter(platform.running)))
    assert sorted(platform.started) == sorted(asked)
    of_one = [key for key in platform.started if key[0] == "a"]
    assert of_one == [key for key in asked if key[0] == "a"]
