"""The PersistentVolumeClaim: the caches of the builds, where `build.cache.size` is set."""

from __future__ import annotations

from goservice import names
from goservice.api.resource import GoService
from goservice.manifest import Manifest
from goservice.objects.metadata import metadata
from goservice.quantity import amount


def cache_claim(service: GoService) -> Manifest | None:
    """The claim for the caches of builds, where one is to be made."""
    cache = service.spec.build.cache
    if cache is None or cache.size is None:
        return None
    storage_class = cache.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(service, names.cache_claim(service), "build"),
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            **({"storageClassName": storage_class} if storage_class else {}),
            "resources": {"requests": {"storage": cache.size}},
        },
    }


def grown(live: Manifest, wanted: Manifest) -> Manifest:
    """The claim that is wanted, as large as it is by now: a claim never shrinks."""
    storage = (live.get("spec") or {}).get("resources", {}).get("requests", {}).get("storage")
    asked = wanted["spec"]["resources"]["requests"]["storage"]
    if storage is None or amount(str(storage)) <= amount(asked):
        return wanted
    return {**wanted, "spec": {**wanted["spec"], "resources": {"requests": {"storage": storage}}}}
