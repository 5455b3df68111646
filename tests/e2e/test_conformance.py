"""A real API server meets every assertion of the conformance suite, as the in-memory world does."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.apiserver import controlplane
from testbed.apiserver.controlplane import ControlPlane
from testbed.apiserver.realserver import RealServer
from tests.support import conformance, conforming

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with tempfile.TemporaryDirectory(prefix="goservice-test-") as folder:
        plane = ControlPlane(Path(folder))
        try:
            plane.start()
            plane.kubectl("apply", "--server-side", "-f", str(controlplane.ROOT / "crds"))
            crd = "crd/goservices.goservice.dev"
            plane.kubectl("wait", "--for=condition=Established", crd, "--timeout=20s")
            yield plane
        finally:
            plane.stop()


@pytest.mark.parametrize("scenario", conformance.SCENARIOS, ids=lambda s: s.__name__)
async def test_a_real_server_conforms(plane: ControlPlane, scenario: conformance.Scenario) -> None:
    """As many assertions as in memory, in a namespace of its own."""
    in_memory, check = conforming.Check(), conforming.Check()
    await scenario(conforming.in_memory(), "shop", in_memory)
    namespace = scenario.__name__.replace("_", "-")
    async with RealServer(plane.kubeconfig, conforming.ADDRESSED) as server:
        await server.make_namespace(namespace)
        await scenario(server, namespace, check)
    assert check.count == in_memory.count
    COUNTED[scenario.__name__] = check.count


COUNTED: dict[str, int] = {}


def test_the_assertions_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    if len(COUNTED) < len(conformance.SCENARIOS):
        pytest.skip("only a part of the suite was asked for, or some of it failed")
    with capsys.disabled():
        print(f"\n{sum(COUNTED.values())} assertions hold on the real API server and in memory")
    assert sum(COUNTED.values()) >= conformance.LEAST
