"""The in-memory world behaves like a real API server wherever the operator relies on one."""

import pytest

from tests.support import conformance, conforming


@pytest.mark.parametrize("scenario", conformance.SCENARIOS, ids=lambda s: s.__name__)
async def test_the_world_conforms(scenario: conformance.Scenario) -> None:
    check = conforming.Check()
    await scenario(conforming.in_memory(), "shop", check)
    assert check.count, "the scenario asserts nothing"


async def test_the_assertions_are_counted() -> None:
    check = conforming.Check()
    for scenario in conformance.SCENARIOS:
        await scenario(conforming.in_memory(), "shop", check)
    print(f"{check.count} assertions in {len(conformance.SCENARIOS)} scenarios hold in memory")
    assert check.count >= conformance.LEAST
