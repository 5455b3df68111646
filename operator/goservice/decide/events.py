"""An event of a plan as the object that `kubectl describe` shows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from goservice import names
from goservice.api import resource
from goservice.decide.writes import Event
from goservice.manifest import format_time

LONGEST = 1024
"""Characters of an event's message: events.k8s.io/v1 allows as many."""


def manifest(body: Mapping[str, Any], event: Event, now: datetime) -> dict[str, Any]:
    """The event of a GoService, under a name that tells it from the others."""
    metadata, at = body["metadata"], format_time(now)
    digest = names.event(metadata["uid"], f"{event.reason}/{at}", event.message)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{digest}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "apiVersion": resource.API_VERSION,
            "kind": resource.KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": event.type,
        "reason": event.reason,
        "message": event.message[:LONGEST],
        "source": {"component": names.OPERATOR},
        "reportingComponent": names.OPERATOR,
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }
