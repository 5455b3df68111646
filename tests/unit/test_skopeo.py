"""What Skopeo's errors mean, over texts that it really said (skopeo.yaml)."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from goservice.api.conditions import Reason
from goservice.build import skopeo

CASES: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("skopeo.yaml").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_a_failed_push_is_told_with_what_to_mend(case: dict[str, Any]) -> None:
    assert case["log"]
    for log in case["log"]:
        why = skopeo.failure(log)
        assert why is not None
        reason, message = why
        assert (str(reason), log) == (case["reason"], log)
        assert case["says"] in message
        assert skopeo.failure(f"Copying blob sha256:abc\n{log}\n") == why
        # As a kubelet wrote it: standard output came after the error.
        assert skopeo.failure(f"{log}\nGetting image source signatures\nCopying blob x\n") == why


@pytest.mark.parametrize("name", ["denied", "unauthorized/name-unknown", "x509/tls", "403"])
def test_an_image_name_is_not_taken_for_an_answer(name: str) -> None:
    log = (
        'level=fatal msg="writing blob: initiating layer upload to '
        f"/v2/{name}/blobs/uploads/ in registry.example.com/{name}: "
        'received unexpected HTTP status: 503 Service Unavailable"'
    )
    why = skopeo.failure(log)
    assert why is not None
    assert why[0] is Reason.REGISTRY_UNAVAILABLE


def test_only_the_fatal_line_counts() -> None:
    """A try that was refused says nothing of the last one."""
    away = 'level=fatal msg="pinging container registry a: EOF"'
    refused = 'level=warning msg="Failed, retrying in 1s. Error: unauthorized: x"'
    why = skopeo.failure(f"{refused}\n{away}")
    assert why is not None
    assert why[0] is Reason.REGISTRY_UNAVAILABLE


@pytest.mark.parametrize(
    "log", ["", 'exec: "skopeo": executable file not found in $PATH: unknown', "panic: oh\n"]
)
def test_what_skopeo_did_not_say_is_left_open(log: str) -> None:
    assert skopeo.failure(log) is None


def test_the_command_line_holds_no_credentials_and_keeps_the_digest() -> None:
    plain = skopeo.arguments(
        "/kaniko/out/oci", "r:5000/a/b:1", report="/r", authfile="", insecure=False
    )
    assert plain[1:] == ["/r", "oci:/kaniko/out/oci", "docker://r:5000/a/b:1", "", ""]
    full = skopeo.arguments(
        "/l", "a/b:1", report="/r", authfile="/push-x/config.json", insecure=True
    )
    assert full[-2:] == ["plain", "/push-x/config.json"]
    shell, _, program, _ = skopeo.command()
    assert shell == "sh"
    assert "--preserve-digests" in program


@pytest.mark.parametrize(
    ("log", "refused"),
    [
        ("uploading manifest 1 to r/a: denied: x", True),
        ("uploading manifest 1 to r/a: unknown: 'a:1' configured as immutable.", True),
        (
            "uploading manifest 1 to r/a: received unexpected HTTP status: 412 Precondition Failed",
            True,
        ),
        (
            "uploading manifest 1 to r/a: received unexpected HTTP status: 503 Service Unavailable",
            False,
        ),
        ("uploading manifest 1 to r/denied: unauthorized: authentication required", False),
        ("uploading manifest immutable to r/a: EOF", False),
        (
            "trying to reuse blob sha256:0 at destination: checking whether it exists: denied: x",
            False,
        ),
        ("initiating layer upload to /v2/a/blobs/uploads/ in r: denied: x", False),
    ],
)
def test_a_refused_tag_is_told_from_a_refused_push(log: str, refused: bool) -> None:
    """By grep, as in the push container."""
    line = f'level=fatal msg="writing manifest: {log}"'
    ended = subprocess.run(["grep", "-Eq", skopeo.TAG_REFUSED], input=line, text=True, check=False)
    assert (ended.returncode == 0) == refused
