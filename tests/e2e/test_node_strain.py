"""A node that runs short of memory in mid-build: the build goes, what serves stays."""

from __future__ import annotations

import pytest

from testbed.node import kubectl, localnode
from testbed.node.localnode import Service

pytestmark = [pytest.mark.e2e, pytest.mark.node]

MIB = 1 << 20
HUNGRY = (
    "package main\n\nfunc main() { println(f(1)) }\n\nfunc f(x int) int {\n"
    + "\tx = x*31 ^ x>>7\n" * 300_000
    + "\treturn x\n}\n"
)
"""One long function: the compiler needs a minute and hundreds of MiB for it."""
ASKED = {"memory": "16Mi"}


def evicted(where: str) -> list[str]:
    """The pods of a namespace that the kubelet evicted for the node's memory."""
    pods = kubectl.get("pods", "-n", where)["items"]
    return [
        pod["metadata"]["name"]
        for pod in pods
        if pod["status"].get("reason") == "Evicted"
        and "low on resource: memory" in pod["status"]["message"]
    ]


def test_a_build_that_is_evicted_for_the_nodes_memory_is_tried_again(
    shop: str, checkout: Service
) -> None:
    localnode.push("evicted", localnode.tiny(program=HUNGRY))
    with localnode.short_of_memory(by=4096 * MIB) as take_it:
        service = localnode.submit(
            "evicted",
            shop,
            "evicted",
            image=localnode.closed(shop, "evicted"),
            build={"resources": {"requests": ASKED}},
            ports=[],
        )
        localnode.until(
            "the build uses far more memory than it asked for",
            lambda: localnode.memory_used(shop, "evicted-build-") > 200 * MIB,
            localnode.BUILD_SECONDS,
        )
        take_it()
        # The memory is given back before the kubelet looks for the next one to go.
        localnode.until("the pod is evicted", lambda: evicted(shop), 90)
    localnode.until("Evicted", lambda: service.says() == "Unknown Evicted")
    assert all(name.startswith("evicted-build-") for name in evicted(shop))
    assert checkout.ask()["uid"] == 10001
    message = service.message()
    assert "The build's pod was evicted: The node was low on resource: memory" in message
    assert "Attempt 1 of 5" in message
    localnode.push("evicted", localnode.tiny())
    service.wait_for("True Serving")
    kubectl.kubectl("delete", "gsvc", "evicted", "-n", shop)
