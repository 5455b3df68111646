"""Which cluster, which namespace, which service; and a user's words for every way to miss one.

The commands get an open `Cluster` and a namespace, so that they run on one in memory too.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import functools
import logging
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click
import yaml
from click.shell_completion import CompletionItem

from goservice import __version__
from goservice.api import resource
from goservice.cli.words import Trouble, Warnings, fail, say
from goservice.cluster.client import connect
from goservice.cluster.protocol import Cluster, Manifests
from goservice.errors import (
    ClusterError,
    Forbidden,
    GoServiceError,
    NotFound,
    SettingsError,
    Unauthorized,
    Unavailable,
)
from goservice.manifest import Manifest

COMPLETION_SECONDS = 3.0
"""Seconds that the shell waits at the most for names of services."""

PATIENCE = 2.0
"""Seconds without an answer after which a terminal is told what is waited for."""

ClusterCommand = Callable[[Cluster, str], Awaitable[int]]
"""What a command does with a cluster and a namespace; it returns the exit code."""


@dataclass(frozen=True)
class Target:
    """Where a command's service is, as the user named it."""

    namespace: str | None = None
    """The option --namespace."""
    kubeconfig: str | None = None
    """The option --kubeconfig: the path of a file."""
    context: str | None = None
    """The option --context: a name in the kubeconfig."""

    def where(self) -> str:
        """The namespace: the option's, else the kubeconfig context's, else default."""
        return self.namespace or self._of_context() or "default"

    def files(self) -> list[Path]:
        """The kubeconfigs that count, none where a pod's own account does."""
        named = self.kubeconfig or os.environ.get("KUBECONFIG", "")
        if not named and self.context is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
            return []
        paths = [Path(part) for part in named.split(os.pathsep) if part]
        return paths or [Path.home() / ".kube" / "config"]

    def _of_context(self) -> str:
        """The context's namespace; the first file that has a thing wins, as in kubectl."""
        trees = [_tree(file) for file in self.files()]
        current = next((t["current-context"] for t in trees if t.get("current-context")), None)
        for tree in trees:
            for entry in tree.get("contexts") or ():
                if entry.get("name") == (self.context or current):
                    return str((entry.get("context") or {}).get("namespace") or "")
        return ""


def _tree(file: Path) -> dict[str, Any]:
    """What a kubeconfig holds; nothing if it is none: connecting fails on it, in words."""
    try:
        tree = yaml.safe_load(file.read_bytes())
    except (OSError, yaml.YAMLError):
        return {}
    return tree if isinstance(tree, dict) else {}


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that name cluster and namespace; the command gets them as `target`."""

    @functools.wraps(command)
    def with_target(
        namespace: str | None, kubeconfig: str | None, context: str | None, **others: Any
    ) -> Any:
        return command(target=Target(namespace, kubeconfig, context), **others)

    where = click.option("-n", "--namespace", help="The namespace; the kubeconfig's if left out.")
    file = click.option(
        "--kubeconfig",
        type=click.Path(exists=True, dir_okay=False),
        help="A kubeconfig file; $KUBECONFIG, else ~/.kube/config, if left out.",
    )
    return where(file(click.option("--context", help="A context of the kubeconfig.")(with_target)))


def _names(context: click.Context, _: click.Parameter, unfinished: str) -> list[CompletionItem]:
    """The services there are, for the shell; nothing at all where the cluster cannot be asked."""
    named = {key: context.params.get(key) for key in ("namespace", "kubeconfig", "context")}
    target = Target(**named)

    async def ask() -> Manifests:
        async with asyncio.timeout(COMPLETION_SECONDS), _connected(target) as cluster:
            return await all_services(cluster, target.where())

    try:
        found = asyncio.run(ask())
    except (GoServiceError, TimeoutError, OSError):
        return []
    every = [str(body["metadata"]["name"]) for body in found]
    return [
        CompletionItem(name)
        for name in every
        if name.startswith(unfinished) and re.fullmatch(r"[a-z0-9.-]{1,253}", name)
    ]


name_argument = click.argument("name", shell_complete=_names)
optional_name_argument = click.argument("name", required=False, shell_complete=_names)


def ask(target: Target, command: ClusterCommand) -> NoReturn:
    """Connect, run the command and exit with its code; an error becomes one line and a code."""

    async def connected() -> int:
        async with _connected(target) as cluster:
            return await command(cluster, target.where())

    logging.basicConfig(handlers=[Warnings()], level=logging.WARNING)
    try:
        code = asyncio.run(connected())
    except Trouble as error:
        fail(str(error), error.code)
    except (ClusterError, SettingsError) as error:
        fail(explained(error, target), 1)
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _connected(target: Target) -> AbstractAsyncContextManager[Cluster]:
    files = target.files()
    if files and not any(file.is_file() for file in files):
        raise Trouble(
            f"no kubeconfig: there is no file {' or '.join(map(str, files))};"
            " get one from whoever runs the cluster, then: export KUBECONFIG=FILE"
        )
    return connect(target.kubeconfig, target.context, version=__version__)


def explained(error: ClusterError | SettingsError, target: Target) -> str:
    """An error in words, and what to do about it."""
    flags = "".join(
        f" --{name} {value}"
        for name, value in (("kubeconfig", target.kubeconfig), ("context", target.context))
        if value
    )
    match error:
        case SettingsError():
            return f"{error}; see what it holds: kubectl{flags} config view"
        case Unauthorized():
            return (
                f"the API server does not accept the kubeconfig's credentials ({error});"
                " log in to the cluster again"
            )
        case Forbidden():
            return (
                f"not allowed: {error}; ask for the role view (to look)"
                f" or edit (to rebuild) in the namespace {target.where()}"
            )
        case Unavailable():
            return f"the cluster does not answer: {error}; look at it: kubectl{flags} cluster-info"
        case _:
            return str(error)


@contextlib.contextmanager
def _patiently() -> Iterator[None]:
    """Says on a terminal what is waited for, once the answer takes long."""
    saying = functools.partial(say, "waiting for the API server's answer", err=True)
    later = asyncio.get_running_loop().call_later(PATIENCE, saying) if sys.stderr.isatty() else None
    try:
        yield
    finally:
        if later is not None:
            later.cancel()


async def all_services(cluster: Cluster, namespace: str | None) -> Manifests:
    """The GoServices of a namespace, or all."""
    try:
        with _patiently():
            return await cluster.list(resource.KIND, namespace)
    except NotFound:
        raise Trouble(
            "the cluster does not know GoServices: the CRD is not installed;"
            " install it: goservice crd | kubectl apply --server-side -f -"
        ) from None


async def find_service(cluster: Cluster, namespace: str, name: str) -> Manifest:
    """The GoService; a name that is not there is told with the names that are."""
    try:
        with _patiently():
            return await cluster.get(resource.KIND, namespace, name)
    except NotFound:
        pass
    try:
        every = await all_services(cluster, None)
    except Forbidden:
        every = await all_services(cluster, namespace)
    elsewhere = sorted(
        str(body["metadata"]["namespace"]) for body in every if body["metadata"]["name"] == name
    )
    there = sorted(
        str(body["metadata"]["name"])
        for body in every
        if body["metadata"]["namespace"] == namespace
    )
    near = difflib.get_close_matches(name, there, n=3)
    if elsewhere:
        hint = f"there is one in the namespace {elsewhere[0]}: add -n {elsewhere[0]}"
    elif near:
        hint = f"did you mean {' or '.join(near)}?"
    elif there:
        shown = ", ".join(there[:8]) + (" …" if len(there) > 8 else "")
        hint = f"there are: {shown}"
    else:
        hint = f"the namespace {namespace} has none; all there are: goservice status -A"
    raise Trouble(f"there is no GoService {namespace}/{name}; {hint}")
