"""The only package that talks to Kubernetes.

Dicts go in and come out. A refusal is one of the errors of the tree, mapped from the server's
answer in one place; nothing is retried here, since the queue retries. The command line goes
through the same calls with its user's rights; what `goservice run` asks for is `ACCESS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.config import ConfigException
from kubernetes.aio.config.incluster_config import SERVICE_TOKEN_FILENAME

from goservice import errors, names
from goservice.api import resource
from goservice.cluster import impersonation
from goservice.cluster.answers import decoded, lines, plain, refusal
from goservice.cluster.bucket import TokenBucket
from goservice.cluster.kinds import KINDS, path, version_path
from goservice.cluster.protocol import (
    MANAGER,
    Manifests,
)
from goservice.manifest import Kind, Manifest
from goservice.metrics import Metrics
from goservice.objects.children import LARGE

PAGE_SIZE = 100
"""Objects in one page of a list: so many are held in memory at once."""
LARGE_PAGE_SIZE = 20
"""Objects in one page of a kind whose objects others may fill with a MiB each."""

LISTS_AT_ONCE = 2
"""Lists whose answers are on their way at once: each may hold a page of the largest objects."""

_LIST_RESTARTS = 3
"""Tries of a list whose continue token expires between two pages."""

_JSON = "application/json"
"""The content type of whole objects."""

_APPLY = "application/apply-patch+yaml"
"""The content type that makes a PATCH a server-side apply; JSON is YAML too."""

_MERGE = "application/merge-patch+json"
"""The content type that makes a PATCH a JSON merge patch."""


class KubernetesCluster:
    """A real API server, through the official client's transport."""

    def __init__(
        self,
        client: ApiClient,
        *,
        qps: float = 200.0,
        burst: int = 400,
        concurrency: int = 32,
        timeout: float = 30.0,
        metrics: Metrics | None = None,
        kinds: Mapping[str, Kind] = KINDS,
    ) -> None:
        self._client = client
        self._kinds = kinds
        self._bucket = TokenBucket(qps, burst)
        self._slots = asyncio.Semaphore(concurrency)
        self._lists = asyncio.Semaphore(LISTS_AT_ONCE)
        self._timeout = timeout
        self._metrics = metrics

    async def get(self, kind: str, namespace: str, name: str) -> Manifest:
        return plain(await self._request("get", kind, namespace, name))

    async def list(
        self,
        kind: str,
        namespace: str | None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        most: int | None = None,
    ) -> Manifests:
        query = {"labelSelector": label_selector, "fieldSelector": field_selector}
        if most is not None:
            # Closed at once: what is left to the loop holds its page until the loop comes to it.
            first = self._pages(kind, namespace, {**query, "limit": str(most)})
            async with contextlib.aclosing(first) as pages:
                return await anext(pages)
        for _ in range(_LIST_RESTARTS):
            try:
                return [x async for page in self._pages(kind, namespace, query) for x in page]
            except errors.Gone as error:
                expired = error
        raise expired

    def pages(
        self, kind: str, namespace: str | None, *, label_selector: str = ""
    ) -> AsyncIterator[Manifests]:
        return self._pages(kind, namespace, {"labelSelector": label_selector})

    async def _pages(
        self, kind: str, namespace: str | None, selectors: Mapping[str, str]
    ) -> AsyncGenerator[Manifests, None]:
        size = LARGE_PAGE_SIZE if kind in (resource.KIND, *LARGE) else PAGE_SIZE
        query = {"limit": str(size), **{k: v for k, v in selectors.items() if v}}
        position = ""
        while True:
            more = {"continue": position} if position else {}
            async with self._lists:
                page = await self._request("list", kind, namespace, "", query={**query, **more})
            position = (page.get("metadata") or {}).get("continue", "")
            found = [_item(self._kinds[kind], item) for item in page.pop("items", None) or ()]
            yield found
            # Whoever still holds the list holds no page while the next one comes.
            found.clear()
            if not position:
                return

    async def apply(self, manifest: Manifest, *, manager: str = MANAGER) -> Manifest:
        return await self._apply(manifest, "", manager)

    async def apply_status(self, manifest: Manifest) -> Manifest:
        answer = await self._apply(manifest, "status", MANAGER)
        wanted = manifest["metadata"].get("uid")
        if wanted and answer["metadata"].get("uid") != wanted:
            # The API server compares the uid in every apply but this one (custom resources).
            kind, namespace, name = _address(manifest)
            raise errors.Conflict(
                f"apply {kind} status {namespace}/{name}: the object was made anew", status=409
            )
        return answer

    async def _apply(self, manifest: Manifest, subresource: str, manager: str) -> Manifest:
        kind, namespace, name = _address(manifest)
        query = {"fieldManager": manager, "force": "true", "fieldValidation": "Strict"}
        answer = await self._request(
            "apply", kind, namespace, name, subresource, query=query, body=manifest
        )
        return plain(answer)

    async def create(self, manifest: Manifest) -> Manifest:
        kind, namespace, name = _address(manifest)
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
        answer = await self._request("create", kind, namespace, name, query=query, body=manifest)
        return plain(answer)

    async def patch_merge(self, kind: str, namespace: str, name: str, body: Manifest) -> Manifest:
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
        answer = await self._request("patch", kind, namespace, name, query=query, body=body)
        return plain(answer)

    async def delete(self, kind: str, namespace: str, name: str, *, uid: str | None) -> None:
        body: Manifest = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
        }
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        await self._request("delete", kind, namespace, name, body=body)

    async def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        tail_lines: int | None = None,
    ) -> AsyncIterator[str]:
        query = {"container": container}
        if follow:
            query["follow"] = "true"
        if tail_lines is not None:
            query["tailLines"] = str(tail_lines)
        what = f"reading the log of container {container} of Pod {namespace}/{pod}"
        where = path(self._kinds["Pod"], namespace, pod, "log")
        # A log that is followed may be silent for an hour: only connecting has a time limit then.
        limit = aiohttp.ClientTimeout(
            total=None, sock_connect=self._timeout, sock_read=None if follow else self._timeout
        )
        with _transport_errors(what):
            response = (await self._send("GET", where, query, None, _JSON, limit)).response
            try:
                if response.status != 200:
                    raise refusal(what, response.status, response.headers, await response.read())
                async for line in lines(response.content.iter_any()):
                    yield line
            finally:
                response.close()

    async def can_i(
        self, verb: str, kind: str, subresource: str = "", namespace: str | None = None
    ) -> bool:
        known = self._kinds.get(kind)
        resource, _, part = (known.resource if known else kind).partition("/")
        plural, _, group = resource.partition(".")
        wanted = {"verb": verb, "group": group, "resource": plural}
        if subresource or part:
            wanted["subresource"] = subresource or part
        if namespace is not None:
            wanted["namespace"] = namespace
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": wanted},
        }
        review = await self._exchange(
            "create",
            "SelfSubjectAccessReview",
            f"asking whether {verb} {resource} is allowed",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            {},
            body,
        )
        return bool((review.get("status") or {}).get("allowed"))

    async def serves(self, kind: str) -> bool:
        wanted = self._kinds[kind]
        what = f"asking whether {kind} of {wanted.api_version} is served"
        try:
            found = await self._exchange(
                "get", "APIResourceList", what, version_path(wanted), {}, None
            )
        except errors.NotFound:
            return False
        # Of a kind whose definition is being deleted, the server lists no verb that makes anything.
        return any(
            item.get("name") == wanted.plural and "create" in (item.get("verbs") or ())
            for item in found.get("resources") or ()
        )

    async def _request(
        self,
        verb: str,
        kind: str,
        namespace: str | None,
        name: str,
        subresource: str = "",
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
    ) -> Manifest:
        object_name = "" if verb in ("create", "list") else name
        where = path(self._kinds[kind], namespace, object_name, subresource)
        target = "/".join(part for part in (namespace, name) if part) or "all namespaces"
        what = f"{verb} {kind}{f' {subresource}' if subresource else ''} {target}"
        return await self._exchange(verb, kind, what, where, query or {}, body)

    async def _exchange(
        self,
        verb: str,
        kind: str,
        what: str,
        where: str,
        query: Mapping[str, str],
        body: Manifest | None,
    ) -> Manifest:
        """One request and its whole answer."""
        method, content_type = _METHODS[verb]
        code = "none"
        await self._bucket.take()
        try:
            async with self._slots:
                with _transport_errors(what):
                    answer = await self._send(
                        method, where, query, body, content_type, self._timeout
                    )
                    data = await answer.read()
                    code = str(answer.status)
            if not 200 <= answer.status < 300:
                raise refusal(what, answer.status, answer.headers, data)
            return decoded(what, data)
        finally:
            if self._metrics is not None:
                self._metrics.api_requests_total.labels(verb=verb, kind=kind, code=code).inc()

    async def _send(
        self,
        method: str,
        where: str,
        query: Mapping[str, str],
        body: Manifest | None,
        content_type: str,
        timeout: float | aiohttp.ClientTimeout,  # noqa: ASYNC109
    ) -> Any:
        method, url, headers, serialized, _ = await self._client.param_serialize(
            method,
            where,
            query_params=[*query.items()],
            header_params={"Accept": _JSON, "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        return await self._client.call_api(
            method, url, headers, serialized, _request_timeout=timeout
        )


_METHODS = {
    "get": ("GET", _JSON),
    "list": ("GET", _JSON),
    "create": ("POST", _JSON),
    "apply": ("PATCH", _APPLY),
    "patch": ("PATCH", _MERGE),
    "delete": ("DELETE", _JSON),
}
"""The HTTP method and content type of each verb."""


_UNUSABLE = (
    *(ConfigException, OSError, yaml.YAMLError),
    *(ValueError, TypeError, AttributeError, KeyError, RecursionError),
)
"""What the client raises for a kubeconfig that is none: anything, where a field is of another type."""


@contextlib.asynccontextmanager
async def connect(
    kubeconfig: str | None = None,
    context: str | None = None,
    *,
    version: str = "",
    qps: float = 200.0,
    burst: int = 400,
    concurrency: int = 32,
    timeout: float = 30.0,  # noqa: ASYNC109
    metrics: Metrics | None = None,
    kinds: Mapping[str, Kind] = KINDS,
) -> AsyncIterator[KubernetesCluster]:
    """The cluster that this process belongs to, or that a kubeconfig names.

    Raises:
        SettingsError: there is no usable configuration.
    """
    configuration = Configuration()
    configuration.connection_pool_maxsize = concurrency * 2
    # Trusting the environment, aiohttp reads ~/.netrc in a thread for every request: only a proxy
    # is worth that.
    configuration.client_session_kwargs = {"trust_env": bool(urllib.request.getproxies())}
    file = kubeconfig or os.environ.get("KUBECONFIG")
    try:
        if file is None and context is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
            kubernetes_config.load_incluster_config(
                client_configuration=configuration, try_refresh_token=False
            )
            configuration.refresh_api_key_hook = _take_token
        else:
            await kubernetes_config.load_kube_config(
                config_file=file or "~/.kube/config",
                context=context,
                client_configuration=configuration,
                persist_config=False,
            )
            acts_as = impersonation.headers(file or "~/.kube/config", context)
            configuration.client_session_kwargs["headers"] = acts_as
        client = ApiClient(configuration)
    except _UNUSABLE as error:
        raise errors.SettingsError(f"no connection to a cluster: {error}") from error
    client.user_agent = f"{names.OPERATOR}/{version or 'unknown'}"
    try:
        yield KubernetesCluster(
            client,
            qps=qps,
            burst=burst,
            concurrency=concurrency,
            timeout=timeout,
            metrics=metrics,
            kinds=kinds,
        )
    finally:
        await client.close()


def _take_token(configuration: Configuration) -> None:
    """The pod's token as it is now: the kubelet replaces it while the process runs."""
    token = Path(SERVICE_TOKEN_FILENAME).read_text().strip()
    configuration.api_key["BearerToken"] = f"bearer {token}"


def _item(kind: Kind, item: Manifest) -> Manifest:
    """An item of a list as an object of its own: a list names the kind once, for all of them."""
    item.setdefault("apiVersion", kind.api_version)
    item.setdefault("kind", kind.kind)
    return plain(item)


def _address(manifest: Manifest) -> tuple[str, str, str]:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata["namespace"], metadata["name"]


@contextlib.contextmanager
def _transport_errors(what: str) -> Iterator[None]:
    """Turn whatever keeps an answer from arriving into Unavailable."""
    try:
        yield
    except TimeoutError as error:
        raise errors.Unavailable(f"{what}: the API server did not answer in time") from error
    except (aiohttp.ClientError, ApiException, ConfigException, OSError, ValueError) as error:
        raise errors.Unavailable(f"{what}: no answer from the API server: {error}") from error
