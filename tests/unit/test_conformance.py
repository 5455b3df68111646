"""The in-memory world behaves like a real API server wherever the operator relies on one."""

import pytest

import conformance
from world import World


@pytest.mark.parametrize("scenario", conformance.SCENARIOS, ids=lambda s: s.__name__)
async def test_the_world_conforms(scenario: conformance.Scenario) -> None:
    await scenario(World(), "shop")
