"""The client against a small HTTP server that answers what the test says."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from goservice import errors
from goservice.cluster import answers, bucket, client, impersonation, kinds, protocol
from goservice.metrics import Metrics

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Records requests; each is answered by the next answer, the last one for good."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.seen: list[tuple[str, str, dict[str, str], Any]] = []
        self.headers: list[dict[str, str]] = []
        self.raw_headers: list[list[tuple[str, str]]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        body = json.loads(text) if text else None
        self.seen.append((request.method, request.path, dict(request.query), body))
        self.headers.append(dict(request.headers))
        self.raw_headers.append(list(request.headers.items()))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)


def says(body: Any, status: int = 200, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        if isinstance(body, str):
            return web.Response(text=body, status=status, headers=headers)
        return web.json_response(body, status=status, headers=headers)

    return answer


def refuses(status: int, reason: str, message: str = "no", **headers: str) -> Answer:
    return says({"kind": "Status", "reason": reason, "message": message}, status, **headers)


@asynccontextmanager
async def connected(
    server: Server, tmp_path: Path, user: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[client.KubernetesCluster]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    async with TestServer(app) as site:
        file = tmp_path / "kubeconfig"
        file.write_text(kubeconfig(str(site.make_url("")), user))
        async with client.connect(str(file), **options) as connection:
            yield connection


def kubeconfig(url: str, user: dict[str, Any] | None = None) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": url.rstrip("/")}}],
            "users": [{"name": "u", "user": {"token": "s3cret", **(user or {})}}],
        }
    )


def deployment(**metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": "shop", "name": "checkout", **metadata},
    }


async def test_get_drops_managed_fields_and_says_who_asks(tmp_path: Path) -> None:
    server = Server(says(deployment(managedFields=[{}], uid="u")))
    async with connected(server, tmp_path, version="1.2.3") as c:
        assert await c.get("Deployment", "shop", "checkout") == deployment(uid="u")
    path = "/apis/apps/v1/namespaces/shop/deployments/checkout"
    assert server.seen == [("GET", path, {}, None)]
    assert server.headers[0]["User-Agent"] == "goservice-operator/1.2.3"
    assert server.headers[0]["Authorization"] == "Bearer s3cret"


async def test_apply_is_server_side_and_strict(tmp_path: Path) -> None:
    server = Server(says(deployment()))
    async with connected(server, tmp_path) as c:
        await c.apply(deployment())
        await c.apply(deployment(), manager=protocol.HANDOVER_MANAGER)
        await c.apply_status({**deployment(), "status": {}})
    path = "/apis/apps/v1/namespaces/shop/deployments/checkout"
    query = {"fieldManager": "goservice-operator", "force": "true", "fieldValidation": "Strict"}
    other = {**query, "fieldManager": "goservice-operator-handover"}
    assert server.seen == [
        ("PATCH", path, query, deployment()),
        ("PATCH", path, other, deployment()),
        ("PATCH", f"{path}/status", query, {**deployment(), "status": {}}),
    ]
    assert {h["Content-Type"] for h in server.headers} == {"application/apply-patch+yaml"}


async def test_create_patch_and_delete(tmp_path: Path) -> None:
    server = Server(says(deployment()))
    async with connected(server, tmp_path) as c:
        await c.create(deployment())
        await c.patch_merge("GoService", "shop", "checkout", {"metadata": {}})
        await c.delete("Job", "shop", "j", uid="u1")
        await c.delete("Job", "shop", "j", uid=None)
    query = {"fieldManager": "goservice-operator", "fieldValidation": "Strict"}
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
    job = "/apis/batch/v1/namespaces/shop/jobs/j"
    service = "/apis/goservice.dev/v1alpha1/namespaces/shop/goservices/checkout"
    assert server.seen == [
        ("POST", "/apis/apps/v1/namespaces/shop/deployments", query, deployment()),
        ("PATCH", service, query, {"metadata": {}}),
        ("DELETE", job, {}, {**options, "preconditions": {"uid": "u1"}}),
        ("DELETE", job, {}, options),
    ]
    assert server.headers[1]["Content-Type"] == "application/merge-patch+json"


def page(name: str, position: str = "") -> Answer:
    return says(
        {
            "metadata": {"continue": position},
            "items": [{"metadata": {"name": name, "managedFields": []}}],
        }
    )


async def test_lists_are_read_page_by_page(tmp_path: Path) -> None:
    server = Server(page("a", "next"), page("b"))
    async with connected(server, tmp_path) as c:
        found = await c.list("Pod", None, label_selector="a=b,c!=d", field_selector="x=y")
    assert found == [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b"}},
    ]
    query = {"limit": "20", "labelSelector": "a=b,c!=d", "fieldSelector": "x=y"}
    assert server.seen == [
        ("GET", "/api/v1/pods", query, None),
        ("GET", "/api/v1/pods", {**query, "continue": "next"}, None),
    ]


async def test_of_pages_no_more_than_one_is_asked_for_at_a_time(tmp_path: Path) -> None:
    server = Server(page("a", "next"), refuses(410, "Expired"))
    async with connected(server, tmp_path) as c:
        pages = c.pages("Pod", None, label_selector="a=b")
        assert [p["metadata"]["name"] for p in await anext(pages)] == ["a"]
        assert server.seen == [
            ("GET", "/api/v1/pods", {"limit": "20", "labelSelector": "a=b"}, None)
        ]
        with pytest.raises(errors.Gone):
            await anext(pages)


async def test_a_page_that_expired_starts_the_list_again(tmp_path: Path) -> None:
    server = Server(page("a", "next"), refuses(410, "Expired"), page("c"))
    async with connected(server, tmp_path) as c:
        assert [p["metadata"]["name"] for p in await c.list("Pod", "shop")] == ["c"]
    assert server.seen[0][1] == "/api/v1/namespaces/shop/pods"


async def test_a_list_that_always_expires_is_given_up(tmp_path: Path) -> None:
    server = Server(refuses(410, "Expired"))
    async with connected(server, tmp_path) as c:
        with pytest.raises(errors.Gone):
            await c.list("Pod", None)
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        (400, "BadRequest", errors.Invalid),
        (401, "Unauthorized", errors.Unauthorized),
        (403, "Forbidden", errors.Forbidden),
        (404, "NotFound", errors.NotFound),
        (408, "Timeout", errors.Unavailable),
        (409, "AlreadyExists", errors.AlreadyExists),
        (409, "Conflict", errors.Conflict),
        (410, "Expired", errors.Gone),
        (422, "Invalid", errors.Invalid),
        (429, "TooManyRequests", errors.TooManyRequests),
        (500, "InternalError", errors.Unavailable),
        (503, "ServiceUnavailable", errors.Unavailable),
    ],
)
async def test_a_refusal_is_an_error_of_the_tree(
    status: int, reason: str, expected: type[errors.ClusterError], tmp_path: Path
) -> None:
    server = Server(refuses(status, reason, "the server's words", **{"Retry-After": "7"}))
    async with connected(server, tmp_path) as c:
        with pytest.raises(errors.ClusterError) as caught:
            await c.get("Pod", "shop", "p")
    assert type(caught.value) is expected
    assert str(caught.value) == "get Pod shop/p: the server's words"
    assert (caught.value.status, caught.value.retry_after) == (status, 7.0)


async def test_an_unknown_field_is_invalid_although_the_server_says_500(tmp_path: Path) -> None:
    said = "failed to create typed patch object: .spec.typo: field not declared in schema"
    async with connected(Server(refuses(500, "", said)), tmp_path) as c:
        with pytest.raises(errors.Invalid, match="not declared in schema"):
            await c.apply(deployment())


async def test_a_status_that_reached_a_namesake_is_noticed(tmp_path: Path) -> None:
    async with connected(Server(says(deployment(uid="new"))), tmp_path) as c:
        with pytest.raises(errors.Conflict, match="made anew"):
            await c.apply_status({**deployment(uid="old"), "status": {}})
        assert await c.apply_status({**deployment(uid="new"), "status": {}})


@pytest.mark.parametrize("body", ["<html>", "[]"])
@pytest.mark.parametrize("status", [200, 502])
async def test_answers_that_are_no_object_are_a_fault_of_the_server(
    body: str, status: int, tmp_path: Path
) -> None:
    async with connected(Server(says(body, status)), tmp_path) as c:
        with pytest.raises(errors.Unavailable, match=r"get Pod shop/p: (the API|HTTP 502)"):
            await c.get("Pod", "shop", "p")


async def test_silence_ends(tmp_path: Path) -> None:
    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(2)
        return web.Response()

    async with connected(Server(hang), tmp_path, timeout=0.05) as c:
        with pytest.raises(errors.Unavailable, match="did not answer in time"):
            await c.get("Pod", "shop", "p")


async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(kubeconfig("http://127.0.0.1:9"))
    async with client.connect(str(file)) as c:
        with pytest.raises(errors.Unavailable, match="no answer from the API server"):
            await c.get("Pod", "shop", "p")


async def test_only_so_many_requests_at_once(tmp_path: Path) -> None:
    running = most = 0

    async def slow(_: web.Request) -> web.StreamResponse:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return web.json_response({})

    async with connected(Server(slow), tmp_path, concurrency=3) as c:
        await asyncio.gather(*(c.get("Pod", "shop", "p") for _ in range(12)))
    assert most == 3


async def test_requests_are_counted(tmp_path: Path) -> None:
    metrics = Metrics()
    async with connected(
        Server(says({}), refuses(404, "NotFound")), tmp_path, metrics=metrics
    ) as c:
        await c.apply(deployment())
        with pytest.raises(errors.NotFound):
            await c.get("Pod", "shop", "p")
    text = metrics.text().decode()
    name = "goservice_operator_api_requests_total"
    assert f'{name}{{code="200",kind="Deployment",verb="apply"}} 1.0' in text
    assert f'{name}{{code="404",kind="Pod",verb="get"}} 1.0' in text


async def test_logs_are_lines(tmp_path: Path) -> None:
    server = Server(says("one\ntwo\r\nthree"))
    async with connected(server, tmp_path) as c:
        lines = [x async for x in c.logs("shop", "p", "build", follow=True, tail_lines=5)]
        assert lines == ["one", "two", "three"]
        assert [x async for x in c.logs("shop", "p", "build")] == lines
    query = {"container": "build", "follow": "true", "tailLines": "5"}
    assert server.seen[0] == ("GET", "/api/v1/namespaces/shop/pods/p/log", query, None)


async def test_a_line_of_a_log_that_is_too_long_is_cut(tmp_path: Path) -> None:
    server = Server(says(f"a\n{'é' * (4 << 20)}\nb\n\nc"))
    async with connected(server, tmp_path) as c:
        first, long, *rest = [x async for x in c.logs("shop", "p", "build")]
    assert (first, rest) == ("a", ["b", "", "c"])
    assert long == "é" * (1 << 15) + f" … ({(8 << 20) - (1 << 16)} more bytes on this line)"


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
async def test_lines_are_the_same_however_they_arrive(size: int) -> None:
    data = b"one\n\ntwo\r\n\xc3\xa9\nthree"
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    assert [line async for line in answers.lines(chunks(*parts))] == [
        "one",
        "",
        "two",
        "é",
        "three",
    ]


ACTS_AS = {
    "as": "ann@example.com",
    "as-uid": "u-1",
    "as-groups": ["dev", "ops"],
    "as-user-extra": {"example.com/Team %": ["a", "b"]},
}


async def test_a_kubeconfig_that_acts_as_another_user_does_so(tmp_path: Path) -> None:
    server = Server(says({"items": [], "metadata": {}}))
    async with connected(server, tmp_path, user=ACTS_AS) as c:
        await c.list("Pod", "shop")
        _ = [x async for x in c.logs("shop", "p", "build")]
    # As the API server reads them: a group or an extra value in each header.
    for raw in server.raw_headers:
        sent = sorted((k.lower(), v) for k, v in raw if k.lower().startswith("impersonate"))
        assert sent == [
            ("impersonate-extra-example.com%2fteam%20%25", "a"),
            ("impersonate-extra-example.com%2fteam%20%25", "b"),
            ("impersonate-group", "dev"),
            ("impersonate-group", "ops"),
            ("impersonate-uid", "u-1"),
            ("impersonate-user", "ann@example.com"),
        ]
        assert ("authorization", "Bearer s3cret") in [(k.lower(), v) for k, v in raw]
    assert len(server.raw_headers) == 2


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ({"as-groups": ["dev"]}, "and no as: say as whom to act"),
        ({"as-uid": "1"}, "and no as: say as whom to act"),
        ({"as-user-extra": {"a": ["b"]}}, "and no as: say as whom to act"),
        ({"as": ["ann"]}, "as must be a text"),
        ({"as": "a\r\nAuthorization: x"}, "as must be a text without control characters"),
        ({"as": "ann", "as-groups": "dev"}, "as-groups must be a list of texts"),
        ({"as": "ann", "as-groups": [1]}, "as-groups must be a text"),
        ({"as": "ann", "as-user-extra": ["b"]}, "as-user-extra must be names with lists"),
        ({"as": "ann", "as-user-extra": {"a": "b"}}, "as-user-extra must be a list of texts"),
    ],
)
async def test_a_kubeconfig_that_says_badly_as_whom_it_acts_is_refused(
    tmp_path: Path, user: dict[str, Any], said: str
) -> None:
    with pytest.raises(errors.SettingsError, match=said):
        async with connected(Server(says({})), tmp_path, user=user):
            pass


def test_of_several_kubeconfigs_the_first_that_names_a_user_counts(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    users = [{"name": "u", "user": {"as": "ann"}}]
    one.write_text(yaml.safe_dump({"current-context": "x", "users": users}))
    contexts = [
        {"name": "x", "context": {"user": "u"}},
        {"name": "y", "context": {"user": "v"}},
    ]
    more = [{"name": "u", "user": {"as": "root"}}, {"name": "v", "user": {"as": "bob"}}]
    two.write_text(yaml.safe_dump({"current-context": "y", "contexts": contexts, "users": more}))
    both = f"{one}:{two}"
    assert impersonation.headers(both)["Impersonate-User"] == "ann"
    assert impersonation.headers(both, "y")["Impersonate-User"] == "bob"
    assert not impersonation.headers(both, "z")
    assert not impersonation.headers(str(tmp_path / "none"))


async def test_logs_that_are_refused(tmp_path: Path) -> None:
    async with connected(Server(refuses(400, "BadRequest", "is waiting to start")), tmp_path) as c:
        with pytest.raises(errors.Invalid, match="container build of Pod shop/p: is waiting"):
            _ = [x async for x in c.logs("shop", "p", "build")]


@pytest.mark.parametrize(
    ("kind", "subresource", "namespace", "expected"),
    [
        ("Deployment", "", None, {"group": "apps", "resource": "deployments"}),
        ("Pod", "log", "shop", {"resource": "pods", "subresource": "log", "namespace": "shop"}),
        (
            "goservices.goservice.dev/status",
            "",
            None,
            {"group": "goservice.dev", "resource": "goservices", "subresource": "status"},
        ),
    ],
)
async def test_rights_are_asked_for(
    kind: str, subresource: str, namespace: str | None, expected: dict[str, str], tmp_path: Path
) -> None:
    server = Server(says({"status": {"allowed": True}}), says({}))
    async with connected(server, tmp_path) as c:
        assert await c.can_i("list", kind, subresource, namespace)
        assert not await c.can_i("list", kind, subresource, namespace)
    method, path, _, body = server.seen[0]
    assert (method, path) == (
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    )
    assert body["spec"]["resourceAttributes"] == {"verb": "list", "group": "", **expected}


@pytest.mark.parametrize(
    ("answer", "served"),
    [
        (says({"resources": [{"name": "jobs", "verbs": ["create", "list", "watch"]}]}), True),
        (says({"resources": [{"name": "jobs/status", "verbs": ["create"]}]}), False),
        (says({"resources": [{"name": "jobs", "verbs": ["delete", "list", "watch"]}]}), False),
        (says({"resources": [{"name": "jobs"}]}), False),
        (says({"resources": None}), False),
        (refuses(404, "NotFound"), False),
        (says("404 page not found", 404), False),
    ],
)
async def test_what_is_served_is_asked_for(answer: Answer, served: bool, tmp_path: Path) -> None:
    """A kind whose definition is being deleted is listed without the verbs that make anything."""
    server = Server(answer)
    async with connected(server, tmp_path) as c:
        assert await c.serves("Job") is served
    assert server.seen == [("GET", "/apis/batch/v1", {}, None)]


async def test_no_answer_to_what_is_served_is_an_error(tmp_path: Path) -> None:
    async with connected(Server(refuses(503, "ServiceUnavailable")), tmp_path) as c:
        with pytest.raises(errors.Unavailable, match="whether ConfigMap of v1 is served"):
            await c.serves("ConfigMap")


async def test_no_configuration_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(errors.SettingsError, match="no connection to a cluster"):
        async with client.connect():
            pass


async def test_inside_a_cluster_the_service_account_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.delenv("KUBERNETES_SERVICE_PORT", raising=False)
    with pytest.raises(errors.SettingsError, match="Service host/port is not set"):
        async with client.connect():
            pass


async def test_tokens_are_promised_in_order() -> None:
    now = 0.0
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    tokens = bucket.TokenBucket(10, 2, clock=lambda: now, sleep=sleep)
    for _ in range(4):
        await tokens.take()
    assert slept == pytest.approx([0.1, 0.2])
    now = 10.0
    slept.clear()
    for _ in range(3):
        await tokens.take()
    assert slept == pytest.approx([0.1])


def test_the_operator_asks_for_no_secret_and_for_nothing_by_wildcard() -> None:
    assert not any("secret" in resource for resource in kinds.ACCESS)
    assert not any("*" in resource for resource in kinds.ACCESS)
    known = {kind.resource for kind in kinds.KINDS.values()}
    assert {resource.partition("/")[0] for resource in kinds.ACCESS} == known
