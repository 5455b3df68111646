"""Where Go comes from and what builds keep: the same image each way, and less work each time."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.node import installation, kubectl, localnode, paths
from testbed.node.localnode import Service

pytestmark = [pytest.mark.e2e, pytest.mark.node]

CLAIM = "go-caches"
COMPILES = "Compiling the standard library"
BEGINS = "This service's cache begins with it."


@pytest.fixture(scope="module")
def kept(shop: str) -> dict[str, Service]:
    """Two services that share an empty claim and are built at once, and one without any cache."""
    localnode.claim(shop, CLAIM)
    localnode.namespace("plain")
    localnode.push("cached", localnode.tiny())
    shared = {"cache": {"claimName": CLAIM}}
    image = {"toolchain": "Image"}
    return {
        "one": localnode.submit("cached", shop, "cached", build=shared, ports=[]),
        "two": localnode.submit("twin", shop, "cached", build=shared, ports=[]),
        "plain": localnode.submit("cached", "plain", "cached", build=image, ports=[]),
    }


def laid_out(service: Service) -> str:
    """What the toolchain's container said in the service's newest build."""
    return kubectl.kubectl(
        *("logs", "-n", service.namespace, f"job/{service.status()['build']['name']}"),
        *("-c", "toolchain"),
    )


def test_the_image_is_the_same_wherever_go_comes_from(kept: dict[str, Service]) -> None:
    """Mounted with caches, and unpacked from the builder image without any."""
    for service in kept.values():
        service.wait_for("True Serving", 3 * localnode.BUILD_SECONDS)
    one, plain = kept["one"].image(), kept["plain"].image()
    assert one.partition("@")[0] != plain.partition("@")[0]
    assert one.partition("@")[2] == plain.partition("@")[2]
    steps = kubectl.get("pods", "-n", "plain", "-l", "app.kubernetes.io/component=build")["items"]
    assert [c["name"] for c in steps[0]["spec"]["initContainers"]] == ["fetch", "build"]


def test_two_first_builds_at_once_leave_one_whole_toolchain(kept: dict[str, Service]) -> None:
    told = [laid_out(kept[name]) for name in ("one", "two")]
    assert sum(COMPILES in text for text in told) == 1, "the other one waits for it"
    assert all(BEGINS in text for text in told)
    (image,) = (folder() / "images").iterdir()
    (whole,) = [entry for entry in image.iterdir() if entry.is_dir() and not entry.is_symlink()]
    assert sorted(entry.name for entry in whole.iterdir()) == ["etc", "std", "usr"]


def test_the_next_build_and_the_next_service_compile_no_standard_library(
    kept: dict[str, Service],
) -> None:
    one = kept["one"]
    before = one.image()
    localnode.push("cached", {**localnode.tiny(), "more.go": "package main\n\nvar more = 1\n"})
    localnode.until("the change serves", lambda: one.image() != before, localnode.BUILD_SECONDS)
    assert laid_out(one) == ""
    third = localnode.submit(
        "third", one.namespace, "cached", build={"cache": {"claimName": CLAIM}}, ports=[]
    )
    third.wait_for("True Serving")
    assert COMPILES not in laid_out(third)
    assert BEGINS in laid_out(third)


def test_a_build_owns_its_caches_and_nothing_else_of_the_claim(kept: dict[str, Service]) -> None:
    del kept
    services = sorted((folder() / "services").iterdir())
    assert [each.name for each in services] == ["cached", "third", "twin"]
    for each in services:
        assert owner(each) == 0, "its own folder's entries cannot be replaced by links"
        assert {owner(each / name) for name in ("build", "mod", "tmp")} == {65532}
    for each in (folder() / "images").rglob("*"):
        if not each.is_symlink():
            assert owner(each) == 0
            assert not each.stat().st_mode & stat.S_IWOTH


def test_a_missing_claim_is_named_and_mended(shop: str) -> None:
    build = {"cache": {"claimName": "not-yet"}}
    service = localnode.submit("claimless", shop, "cached", build=build, ports=[])
    localnode.until("ClaimNotFound", lambda: service.says() == "False ClaimNotFound", 120)
    assert f"PersistentVolumeClaim {shop}/not-yet (build.cache.claimName)" in service.message()
    localnode.claim(shop, "not-yet", folder=localnode.CACHES)
    service.wait_until(
        "it goes on by itself",
        lambda _: service.says() == "True Serving",
        localnode.BUILD_SECONDS,
    )
    assert service.status()["build"]["attempt"] == 1


def test_a_claim_is_made_for_a_service_and_goes_with_it(shop: str) -> None:
    """No storage class is here: the claim waits for a volume that is made for it by hand."""
    build = {"cache": {"size": "1Gi", "storageClassName": "by-hand"}}
    service = localnode.submit("owner", shop, "cached", build=build, ports=[])
    name = "owner-build-cache"
    localnode.until("the claim", lambda: name in kubectl.kubectl("get", "pvc", "-n", shop), 60)
    localnode.volume(shop, name, "by-hand", folder=localnode.CACHES)
    service.wait_for("True Serving", 2 * localnode.BUILD_SECONDS)
    made = kubectl.get("pvc", name, "-n", shop)
    assert made["metadata"]["ownerReferences"][0]["name"] == "owner"
    assert made["status"]["phase"] == "Bound"
    service.patch({"build": {"cache": {"size": "2Gi"}}})
    localnode.until("the refusal is told", lambda: service.says() == "False ClusterRefused", 30)
    assert "persistentvolumeclaims" in service.message()
    service.patch({"build": {"cache": None}})
    service.wait_for("True Serving", 60)
    assert kubectl.get("pvc", name, "-n", shop)["metadata"]["uid"] == made["metadata"]["uid"]
    kubectl.kubectl("delete", "goservice", "owner", "-n", shop)
    localnode.until(
        "it goes with the service",
        lambda: name not in kubectl.kubectl("get", "pvc", "-n", shop),
        60,
    )


def test_go_by_an_image_volume_is_not_copied_and_the_image_is_the_same(
    kept: dict[str, Service], image_volumes: None
) -> None:
    plain = kept["plain"]
    localnode.namespace("volume")
    without = localnode.submit("cached", "volume", "cached", ports=[])
    build = {"cache": {"claimName": CLAIM}}
    fourth = localnode.submit("fourth", "shop", "cached", build=build, ports=[])
    for service in (without, fourth):
        service.wait_for("True Serving", 2 * localnode.BUILD_SECONDS)
    assert without.status()["commit"] == plain.status()["commit"]
    assert without.image().partition("@")[2] == plain.image().partition("@")[2]
    assert containers(without) == ["fetch", "build"]
    assert containers(fourth) == ["fetch", "toolchain", "build"], "for the caches only"


@pytest.fixture
def image_volumes(demo: localnode.Demo) -> Iterator[None]:
    """The setting of a platform whose container runtime has image volumes."""
    for_all = {"builds": {"toolchainVolume": "Image"}}
    installation.change_settings(for_all, paths.kubeconfig())
    yield
    installation.change_settings({"builds": {"toolchainVolume": "Copy"}}, paths.kubeconfig())


def containers(service: Service) -> list[str]:
    """What runs before the push in its newest build, whose toolchain is an image volume."""
    name = service.status()["build"]["name"]
    pod = kubectl.get("job", name, "-n", service.namespace)["spec"]["template"]["spec"]
    [volume] = [each for each in pod["volumes"] if each["name"] == "toolchain"]
    assert volume["image"]["reference"].startswith(paths.REGISTRY)
    return [each["name"] for each in pod["initContainers"]]


def folder() -> Path:
    """The claim's files, as the node has them."""
    return paths.run() / "claims" / f"shop-{CLAIM}"


def owner(path: Path) -> int:
    return path.stat().st_uid
