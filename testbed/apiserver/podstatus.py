"""Pod statuses as a kubelet would write them, for those who play the node."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

Status = dict[str, Any]
"""A pod's status, as a kubelet writes it."""


def built(commit: str, job: str) -> Status:
    """A build pod that has pushed an image; each Job has a digest of its own."""
    digest = "sha256:" + hashlib.sha256(job.encode()).hexdigest()
    return {
        "phase": "Succeeded",
        "initContainerStatuses": [_ended("fetch", 0, _report(commit)), _ended("build", 0, digest)],
        "containerStatuses": [_ended("push", 0, "")],
    }


def not_built(commit: str, log: str) -> Status:
    """A build pod whose build container failed with this log."""
    return {
        "phase": "Failed",
        "initContainerStatuses": [_ended("fetch", 0, _report(commit)), _ended("build", 1, log)],
        "containerStatuses": [],
    }


def serving() -> Status:
    """A service's pod that is ready."""
    container = {
        "name": "app",
        "image": "x",
        "imageID": "x",
        "ready": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": _now()}},
    }
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": _now()}
    return {"phase": "Running", "conditions": [ready], "containerStatuses": [container]}


def _report(commit: str) -> str:
    return json.dumps(
        {"commit": commit, "time": _now(), "author": "A", "subject": "S", "go": "1.26"}
    )


def _ended(name: str, code: int, message: str) -> Status:
    state = {
        "exitCode": code,
        "reason": "Error" if code else "Completed",
        "message": message,
        "startedAt": _now(),
        "finishedAt": _now(),
        "containerID": "actor://none",
    }
    return {
        "name": name,
        "image": "x",
        "imageID": "x",
        "ready": False,
        "restartCount": 0,
        "state": {"terminated": state},
    }


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
