"""The command line, `goservice` and `kubectl-goservice`: a skin over the other modules.

Exit codes: 0 done, 1 the cluster or a service is in trouble, 2 bad input.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import json
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn

import click
import yaml

from goservice import (
    __version__,
    conditions,
    crd,
    dockerfile,
    fetch,
    kaniko,
    names,
    resources,
    spec,
)
from goservice import settings as settings_module
from goservice.cluster import Cluster, connect
from goservice.conditions import Type, find
from goservice.data import data_dir
from goservice.errors import GoServiceError, InvalidSpec, NotFound, SettingsError
from goservice.spec import GoService

SAMPLE_COMMIT = "0" * 40
SAMPLE_DIGEST = "sha256:" + "0" * 64

namespace_option = click.option(
    "-n", "--namespace", help="The namespace; the kubeconfig's if left out."
)
kubeconfig_option = click.option(
    "--kubeconfig", type=click.Path(exists=True, dir_okay=False), help="A kubeconfig file."
)
context_option = click.option("--context", help="A context of the kubeconfig.")
file_option = click.option(
    "-f",
    "--file",
    "source",
    required=True,
    type=click.File(),
    help="A YAML file; - for standard input.",
)
settings_option = click.option(
    "--settings",
    "settings_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The platform's settings file; the released one's if left out.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="goservice")
def main() -> None:
    """From a Go repository to a running service on Kubernetes.

    \b
    Examples:
      goservice validate -f checkout.yaml
      goservice render -f checkout.yaml --dockerfile
      goservice status checkout -n shop --watch
      goservice logs checkout -n shop -f
      goservice rebuild checkout -n shop

    \b
    Completion (bash):
      eval "$(_GOSERVICE_COMPLETE=bash_source goservice)"
    """


@main.command()
@file_option
def validate(source: Any) -> None:
    """Check GoServices without a cluster.

    Prints one line for each problem, `spec.path: message`, and ends with 2 if there is one.

    \b
    Examples:
      goservice validate -f checkout.yaml
      cat *.yaml | goservice validate -f -
    """
    services = _services(source)
    for service in services:
        click.echo(f"goservice/{service.name} is valid")


@main.command()
@file_option
@settings_option
@click.option("--commit", default=SAMPLE_COMMIT, help="The full commit to render for.")
@click.option("--dockerfile", "only_dockerfile", is_flag=True, help="Print the Dockerfile alone.")
def render(source: Any, settings_file: Path | None, commit: str, only_dockerfile: bool) -> None:
    """Print what the operator would create, without a cluster.

    The digest is all zeros: only a build can tell it.

    \b
    Examples:
      goservice render -f checkout.yaml
      goservice render -f checkout.yaml --dockerfile > Dockerfile
      goservice render -f checkout.yaml --settings settings.yaml --commit "$(git rev-parse HEAD)"
    """
    settings = _settings(settings_file)
    if not all(c in "0123456789abcdef" for c in commit) or len(commit) != 40:
        _fail("--commit: must be a full commit of 40 hex digits", 2)
    for service in _services(source):
        inputs = names.inputs(service, settings, commit)
        if only_dockerfile:
            click.echo(dockerfile.render(service, settings, commit, inputs), nl=False)
            continue
        click.echo(
            yaml.safe_dump_all(objects(service, settings, commit), sort_keys=False), nl=False
        )


def objects(
    service: GoService, settings: settings_module.Settings, commit: str
) -> list[dict[str, Any]]:
    """Everything that the operator makes for a service, as it would be applied first."""
    inputs = names.inputs(service, settings, commit)
    digest = service.spec.image.digest
    running = resources.Running(
        names.image(service, digest or SAMPLE_DIGEST), service.spec.user.uid, service.spec.time_zone
    )
    result = []
    if digest is None:
        build = names.build(service, inputs, 1)
        result += [
            resources.build_account(service),
            resources.build_files(service, settings, commit, inputs, build),
            resources.build_job(service, settings, commit, inputs, attempt=1, notes={}),
        ]
    result += [resources.account(service), resources.deployment(service, settings, running, {})]
    if service.spec.ports:
        result.append(resources.service(service))
    if service.spec.autoscaling:
        result.append(resources.autoscaler(service))
    if resources.guaranteed_replicas(service) >= 2:
        result.append(resources.disruption_budget(service))
    return result


@main.command("crd")
def print_crd() -> None:
    """Print the CustomResourceDefinition.

    \b
    Example:
      goservice crd | kubectl apply --server-side -f -
    """
    click.echo(crd.dump(), nl=False)


@main.command()
@settings_option
@kubeconfig_option
def run(settings_file: Path | None, kubeconfig: str | None) -> None:
    """Run the operator.

    \b
    Examples:
      goservice run
      goservice run --settings settings.yaml --kubeconfig ~/.kube/config
    """
    from goservice import watch

    settings = _settings(settings_file, packaged=False)
    try:
        asyncio.run(watch.run(settings, kubeconfig))
    except (GoServiceError, OSError) as error:
        _fail(str(error), 1)


@main.command("fetch", hidden=True)
@click.option("--url", required=True)
@click.option("--commit", required=True)
@click.option("--revision", default="")
@click.option("--directory", default=".")
@click.option("--package", default=".")
@click.option("--into", required=True)
@click.option("--go-version", default="")
@click.option("--termination-log", default="/dev/termination-log")
def fetch_source(**arguments: str) -> None:
    """Check out one commit: what the build pod's first container runs."""
    sys.exit(fetch.main(**arguments))


@main.command()
@click.argument("name")
@namespace_option
@kubeconfig_option
@context_option
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print."
)
@click.option("-w", "--watch", is_flag=True, help="Go on until the service is ready or stalled.")
def status(
    name: str,
    namespace: str | None,
    kubeconfig: str | None,
    context: str | None,
    output: str,
    watch: bool,
) -> None:
    """Say how a service is doing, and what to do next.

    Ends with 0 when it is ready, else with 1.

    \b
    Examples:
      goservice status checkout -n shop
      goservice status checkout -n shop --watch
      goservice status checkout -n shop -o json
    """

    async def show() -> int:
        async with connect(kubeconfig, context, version=__version__) as cluster:
            where = namespace or _default_namespace(kubeconfig, context)
            last = ""
            while True:
                body = await cluster.get(spec.KIND, where, name)
                text = (
                    json.dumps(body.get("status") or {}, indent=2)
                    if output == "json"
                    else story(body)
                )
                if text != last:
                    click.echo(text)
                    last = text
                ready = find(body.get("status") or {}, Type.READY)
                current = _is_current(body)
                stalled = find(body.get("status") or {}, Type.STALLED)
                if not watch or (current and (ready.get("status") == "True" or stalled)):
                    return 0 if current and ready.get("status") == "True" else 1
                await asyncio.sleep(1)

    sys.exit(_asked(show()))


def _is_current(body: dict[str, Any]) -> bool:
    observed = (body.get("status") or {}).get("observedGeneration")
    return bool(observed == body["metadata"].get("generation"))


def story(body: dict[str, Any]) -> str:
    """A service's status as a person would tell it."""
    seen = body.get("status") or {}
    ready = find(seen, Type.READY)
    state = str(ready.get("status", "Unknown"))
    colour = {"True": "green", "False": "red"}.get(state, "yellow")
    metadata = body["metadata"]
    lines = [
        f"{metadata['namespace']}/{metadata['name']}: "
        + click.style(
            f"{ready.get('reason', 'the operator has not seen it yet')}", fg=colour, bold=True
        )
    ]
    if ready.get("message"):
        lines.append(f"  {ready['message']}")
    commit = seen.get("commit") or {}
    if commit:
        words = [commit["sha"][:12], commit.get("message", ""), commit.get("author", "")]
        lines.append(f"  Commit   {', '.join(w for w in words if w)}")
    if seen.get("servingImage"):
        lines.append(f"  Serving  {seen['servingImage']}")
    if "replicas" in seen:
        lines.append(f"  Pods     {seen.get('readyReplicas', 0)} of {seen['replicas']} ready")
    if seen.get("url"):
        lines.append(f"  URL      {seen['url']}")
    build = seen.get("build") or {}
    if build:
        why = ", ".join(build.get("trigger", ()))
        lines.append(f"  Build    {build['name']}: {build.get('phase', '')} ({why})")
    if build.get("phase") == "Failed":
        lines += [f"    {line}" for line in build.get("logTail", "").splitlines()[-12:]]
        lines.append(f"  Log      {build.get('logsCommand', '')}")
    return "\n".join(lines)


@main.command()
@click.argument("name")
@namespace_option
@kubeconfig_option
@context_option
@click.option("-f", "--follow", is_flag=True, help="Go on as the build goes on.")
def logs(
    name: str, namespace: str | None, kubeconfig: str | None, context: str | None, follow: bool
) -> None:
    """Print the newest build's log.

    \b
    Examples:
      goservice logs checkout -n shop
      goservice logs checkout -n shop -f
    """

    async def show() -> int:
        async with connect(kubeconfig, context, version=__version__) as cluster:
            where = namespace or _default_namespace(kubeconfig, context)
            body = await cluster.get(spec.KIND, where, name)
            build = ((body.get("status") or {}).get("build") or {}).get("name")
            if not build:
                _fail(f"goservice {where}/{name} has no build yet", 1)
            pod = await _build_pod(cluster, where, build, follow)
            for container in (kaniko.FETCH, kaniko.BUILD, kaniko.PUSH):
                if not await _has_started(cluster, where, pod, container, follow):
                    return 0
                click.echo(click.style(f"--- {container}", bold=True))
                async for line in cluster.logs(where, pod, container, follow=follow):
                    click.echo(kaniko.clean(line))
            return 0

    sys.exit(_asked(show()))


async def _build_pod(cluster: Cluster, namespace: str, build: str, follow: bool) -> str:
    while True:
        pods = await cluster.list(
            "Pod", namespace, label_selector=f"batch.kubernetes.io/job-name={build}"
        )
        if pods:
            return str(pods[-1]["metadata"]["name"])
        if not follow:
            _fail(f"build {namespace}/{build} has no pod; its log is gone", 1)
        await asyncio.sleep(1)


async def _has_started(
    cluster: Cluster, namespace: str, pod: str, container: str, follow: bool
) -> bool:
    while True:
        found = (await cluster.get("Pod", namespace, pod)).get("status", {})
        every = [*found.get("initContainerStatuses", ()), *found.get("containerStatuses", ())]
        state: dict[str, Any] = next(
            (c.get("state", {}) for c in every if c["name"] == container), {}
        )
        if "running" in state or "terminated" in state:
            return True
        if not follow or found.get("phase") in ("Succeeded", "Failed"):
            return False
        await asyncio.sleep(1)


@main.command()
@click.argument("name")
@namespace_option
@kubeconfig_option
@context_option
def rebuild(name: str, namespace: str | None, kubeconfig: str | None, context: str | None) -> None:
    """Build the newest commit again, even if nothing has changed.

    \b
    Example:
      goservice rebuild checkout -n shop && goservice status checkout -n shop --watch
    """

    async def ask() -> int:
        async with connect(kubeconfig, context, version=__version__) as cluster:
            where = namespace or _default_namespace(kubeconfig, context)
            now = conditions.timestamp(datetime.datetime.now(datetime.UTC))
            body = {"metadata": {"annotations": {spec.REBUILD_ANNOTATION: now}}}
            await cluster.patch_merge(spec.KIND, where, name, body)
            click.echo(
                f"goservice/{name} is to be rebuilt; follow it: goservice status {name} -n {where} -w"
            )
            return 0

    sys.exit(_asked(ask()))


def _asked(question: Coroutine[Any, Any, int]) -> int:
    try:
        return asyncio.run(question)
    except NotFound as error:
        _fail(f"{error}; see what there is: kubectl get goservices -A", 1)
    except GoServiceError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        return 130


def _default_namespace(kubeconfig: str | None, context: str | None) -> str:
    path = kubeconfig or os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    file = Path(path) if path else Path.home() / ".kube" / "config"
    if not file.is_file():
        return "default"
    tree = yaml.safe_load(file.read_text()) or {}
    wanted = context or tree.get("current-context")
    for entry in tree.get("contexts") or ():
        if entry.get("name") == wanted:
            return str((entry.get("context") or {}).get("namespace") or "default")
    return "default"


def _settings(file: Path | None, *, packaged: bool = True) -> settings_module.Settings:
    if file is None and packaged:
        file = data_dir("manifests") / "operator" / "settings.yaml"
    try:
        return settings_module.load(file, os.environ)
    except SettingsError as error:
        _fail(str(error), 2)


def _services(source: Any) -> list[GoService]:
    """The GoServices of a YAML stream; ends with 2 and one line per problem if one is wrong."""
    try:
        documents = [d for d in yaml.safe_load_all(source) if d is not None]
    except yaml.YAMLError as error:
        _fail(f"{source.name}: is not YAML: {error}", 2)
    result, faults = [], []
    for document in documents:
        if not isinstance(document, dict) or document.get("kind") != spec.KIND:
            continue
        if document.get("apiVersion") != spec.API_VERSION:
            faults.append(f"apiVersion: must be {spec.API_VERSION}")
            continue
        try:
            service = spec.parse(document)
        except InvalidSpec as error:
            faults += [str(problem) for problem in error.problems]
        else:
            result.append(
                dataclasses.replace(
                    service, uid=service.uid or "00000000-0000-0000-0000-000000000000"
                )
            )
    if faults:
        for fault in faults:
            click.echo(fault, err=True)
        sys.exit(2)
    if not result:
        _fail(f"{source.name}: has no GoService", 2)
    return result


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"{click.style('error', fg='red')}: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
