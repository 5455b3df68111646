"""A day in a cluster that is not ours: what others do to a service, and what it says all the while.

At each step Ready, Argo CD's health, kstatus and `goservice status` must say what is so; a prober
loses no request that a healthy pod could have answered.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import re
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from goservice import names
from testbed.node import kubectl, localnode, paths, pki, repositories
from testbed.node.localnode import Probes, Service
from tests.support.verdicts import argo_health, kstatus

pytestmark = [pytest.mark.e2e, pytest.mark.node]

PROGRAM = """\
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func up() bool {
	answer, err := http.Get(os.Getenv("DATABASE"))
	if err != nil {
		return false
	}
	answer.Body.Close()
	return answer.StatusCode == 200
}

func main() {
	go func() {
		for ; ; time.Sleep(time.Second) {
			if !up() {
				panic("cannot reach the database")
			}
		}
	}()
	server := &http.Server{Addr: ":" + os.Getenv("PORT"), Handler: http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"extra": %q}`, os.Getenv("EXTRA")) })}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	go func() {
		<-stop.Done()
		drain, done := context.WithTimeout(context.Background(), 10*time.Second)
		defer done()
		server.Shutdown(drain)
	}()
	server.ListenAndServe()
	<-stop.Done()
	time.Sleep(time.Second)
}
"""
"""Serves while its database answers, and panics when it does not."""
SOURCE = {"go.mod": "module example.com/day\n\ngo 1.25\n", "main.go": PROGRAM}
DATABASE = (paths.HOST_ADDRESS, 5997)
WEBHOOK = (paths.HOST_ADDRESS, 5996)


class Database(http.server.ThreadingHTTPServer):
    """What the program needs: it answers, or says that it is down."""

    is_up = True

    def __init__(self) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805
                handler.send_response(200 if self.is_up else 503)
                handler.send_header("Content-Length", "0")
                handler.end_headers()

            @override
            def log_message(handler, *arguments: Any) -> None:  # noqa: N805
                pass

        super().__init__(DATABASE, Handler)


class Review(http.server.BaseHTTPRequestHandler):
    """An admission webhook that writes a tag into the image, as mirrors and scanners do."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        answer: dict[str, Any] = {"uid": asked["uid"], "allowed": True}
        container = asked["object"]["spec"]["template"]["spec"]["containers"][0]
        repository, _, digest = container["image"].partition("@")
        if digest and not repository.endswith(":mirrored"):
            place = "/spec/template/spec/containers/0/image"
            patch = [{"op": "replace", "path": place, "value": f"{repository}:mirrored@{digest}"}]
            answer |= {
                "patchType": "JSONPatch",
                "patch": base64.b64encode(json.dumps(patch).encode()).decode(),
            }
        review = {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "response": answer,
        }
        body = json.dumps(review).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, *arguments: Any) -> None:
        pass


@contextlib.contextmanager
def running(server: http.server.ThreadingHTTPServer) -> Iterator[None]:
    """Serve meanwhile."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def rewriting_images(folder: Path) -> Iterator[None]:
    """The webhook meanwhile, for Deployments of the namespace shop."""
    root = pki.authority("webhook")
    certificate, key = pki.issue(root, "webhook", names=(WEBHOOK[0],))
    (folder / "tls.pem").write_bytes(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.pem")
    server = http.server.ThreadingHTTPServer(WEBHOOK, Review)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    hook = {
        "name": "images.example.com",
        "clientConfig": {
            "url": f"https://{WEBHOOK[0]}:{WEBHOOK[1]}/",
            "caBundle": base64.b64encode(pki.pem(root.certificate)).decode(),
        },
        "rules": [
            {
                "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"],
                "operations": ["CREATE", "UPDATE"],
            }
        ],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}},
        "objectSelector": {"matchLabels": {names.SERVICE: "day"}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }  # fmt: skip
    made = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "images"},
        "webhooks": [hook],
    }
    with running(server):
        kubectl.apply([made])
        try:
            yield
        finally:
            kubectl.kubectl("delete", "mutatingwebhookconfiguration", "images")


VERDICTS = {
    "True Serving": ("Healthy", "Current", 0),
    "True Suspended": ("Suspended", "Current", 0),
    "False PodsFailing": ("Degraded", "Failed", 1),
    "False CompileFailed": ("Degraded", "Failed", 1),
}
"""What Argo CD, kstatus and the exit code of `goservice status` are to each word of Ready."""


def says(service: Service, ready: str, seconds: float = 60) -> dict[str, Any]:
    """Wait until Ready says this, then ask all who read the status."""

    def agreed() -> bool:
        body = service.body()
        conditions = {c["type"]: c for c in body.get("status", {}).get("conditions", ())}
        told = localnode.goservice("status", service.name, "-n", service.namespace, check=False)
        found = (argo_health(body), kstatus(conditions), told.returncode)
        return service.says() == ready and found == VERDICTS[ready]

    localnode.until(
        f"all say {ready}; it says {service.says()}: {service.message()}", agreed, seconds
    )
    return service.status()


@contextlib.contextmanager
def ready_all_the_while(service: Service) -> Iterator[None]:
    """Ready must be True Serving at each look meanwhile."""
    over, seen = threading.Event(), []

    def watch() -> None:
        while not over.wait(0.5):
            condition = service.conditions().get("Ready", {})
            seen.append(f"{condition.get('status')} {condition.get('reason')}")

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert set(seen) == {"True Serving"}, seen


def pods(service: Service) -> dict[str, int]:
    """The uids of its pods that are not being deleted, and how often each was restarted."""
    selector = f"{names.SERVICE}={service.name},{names.COMPONENT}=app"
    return {
        pod["metadata"]["uid"]: sum(c["restartCount"] for c in pod["status"]["containerStatuses"])
        for pod in kubectl.get("pods", "-n", service.namespace, "-l", selector)["items"]
        if not pod["metadata"].get("deletionTimestamp")
    }


def ready_pods(service: Service) -> int:
    return int(service.deployment()["status"].get("readyReplicas", 0))


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    server = Database()
    with running(server):
        yield server


@pytest.fixture(scope="module")
def day(shop: str, checkout: Service, database: Database) -> Iterator[Service]:
    """A service of two pods that serves; its memory would be the first to go in a later test."""
    checkout.wait_for("True Serving")
    localnode.push("day", SOURCE, "Morning")
    service = localnode.submit(
        "day",
        shop,
        "day",
        image=localnode.closed(shop, "day"),
        build={"cache": {"claimName": "caches"}},
        env=[{"name": "DATABASE", "value": "http://{}:{}".format(*DATABASE)}],
        replicas=2,
        resources=localnode.LEAN,
    )
    says(service, "True Serving", localnode.BUILD_SECONDS)
    yield service
    kubectl.kubectl("delete", "gsvc", "day", "-n", shop)


def test_what_others_add_stays_and_changes_no_verdict(day: Service, tmp_path: Path) -> None:
    with Probes(day) as probes:
        kubectl.kubectl("set", "env", "deployment/day", "-n", day.namespace, "EXTRA=theirs")
        localnode.until("their variable is there", lambda: day.ask()["extra"] == "theirs", 60)
        says(day, "True Serving")
        with rewriting_images(tmp_path):
            before = localnode.mark()
            day.patch({"resources": {"requests": {"cpu": "2m", "memory": "16Mi"}}})
            localnode.until("the webhook has written", lambda: ":mirrored@" in day.image(), 30)
            status = says(day, "True Serving", 90)
            assert "image" in json.dumps(status["warnings"])
            assert "webhook" in json.dumps(status["warnings"])
            time.sleep(10)
            writes = [
                e
                for e in localnode.writes(before)
                if (e.resource, e.name) == ("deployments", "day")
            ]
            assert len(writes) <= 2, "no war with the webhook"
            assert status["servingImage"] in day.status()["servingImage"]
        day.patch({"resources": localnode.LEAN})
        localnode.until("without it the image is ours", lambda: ":mirrored" not in day.image(), 30)
        says(day, "True Serving", 90)
        assert day.ask()["extra"] == "theirs"
    assert probes.failed == []


def test_scaling_and_drains_are_no_rollout(day: Service) -> None:
    says(day, "True Serving", 90)
    with Probes(day) as probes, ready_all_the_while(day):
        kubectl.kubectl("scale", "gsvc", "day", "-n", day.namespace, "--replicas=4")
        localnode.until("four are ready", lambda: ready_pods(day) == 4, 60)
        selector = f"{names.SERVICE}=day,{names.COMPONENT}=app"
        one = kubectl.get("pods", "-n", day.namespace, "-l", selector)["items"][0]
        kubectl.kubectl("delete", "pod", one["metadata"]["name"], "-n", day.namespace)
        localnode.until("four are ready again", lambda: ready_pods(day) == 4, 60)
        kubectl.kubectl("scale", "gsvc", "day", "-n", day.namespace, "--replicas=2")
        localnode.until("two are left", lambda: len(pods(day)) == 2, 60)
    assert probes.failed == []
    says(day, "True Serving")


def test_a_crash_is_told_in_the_programs_own_words_and_passes(
    day: Service, database: Database
) -> None:
    database.is_up = False
    status = says(day, "False PodsFailing", 150)
    assert "cannot reach the database" in day.message()
    assert {c["type"]: c["status"] for c in status["conditions"]}["Available"] == "False"
    database.is_up = True
    says(day, "True Serving", 150)


def test_a_bad_commit_and_a_lost_repository_take_nothing_away(day: Service) -> None:
    with Probes(day) as probes:
        localnode.push("day", SOURCE | {"main.go": PROGRAM + "\nvar x int = y\n"}, "Noon")
        says(day, "False CompileFailed", localnode.BUILD_SECONDS)
        assert "undefined: y" in day.message()
        localnode.push("day", SOURCE, "Afternoon")
        says(day, "True Serving", localnode.BUILD_SECONDS)
        repositories.move("day", "evening")
        try:
            localnode.until(
                "the move is told",
                lambda: day.conditions()["SourceResolved"]["reason"] == "UnsafeSource",
                60,
            )
            status = says(day, "True Serving")
            (warning,) = [w for w in status["warnings"] if w["field"] == "spec.source.git"]
            assert "redirects to" in warning["message"]
            assert "/evening.git" in warning["message"]
            told = localnode.goservice("status", day.name, "-n", day.namespace).stdout
            assert "New commits are not followed" in re.sub(r"\s+", " ", told)
            described = kubectl.kubectl("describe", "gsvc", "day", "-n", day.namespace)
            assert re.search(r"Warning\s+UnsafeSource", described)
        finally:
            repositories.move_back("day", "evening")
        day.wait_until("it is followed again", lambda s: not s.get("warnings"), 60)
    assert probes.failed == []


def test_a_pause_and_an_upgrade_touch_no_pod(day: Service) -> None:
    says(day, "True Serving")
    before, jobs = pods(day), {job["metadata"]["name"] for job in day.jobs()}
    with Probes(day) as probes:
        day.patch({"suspend": True})
        says(day, "True Suspended")
        day.patch({"suspend": False})
        says(day, "True Serving")
        scale = ("scale", "deployment/goservice-operator", "-n", "goservice-system")
        kubectl.kubectl(*scale, "--replicas=0")
        for note in (names.IMAGE, names.APPLIED):  # which older operators did not write
            kubectl.kubectl("annotate", "deployment", "day", "-n", day.namespace, f"{note}-")
        kubectl.kubectl(*scale, "--replicas=1")
        localnode.wait_for_operator()
        time.sleep(10)
        says(day, "True Serving")
    assert pods(day) == before, "no pod is new, and none was restarted"
    assert {job["metadata"]["name"] for job in day.jobs()} == jobs, "nothing was built"
    assert probes.failed == []
