"""validate, render, crd: what needs no cluster."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import yaml

from goservice import names, resources
from goservice.api import crd
from goservice.api.build import Toolchain
from goservice.api.resource import GoService
from goservice.build import dockerfile
from goservice.build.inputs import inputs_hash
from goservice.cli import files
from goservice.cli.words import fail
from goservice.settings import Settings

SAMPLE_COMMIT = "0" * 40
"""The commit to render for where --commit names none."""

SAMPLE_DIGEST = "sha256:" + "0" * 64
"""The digest of an image that is not built yet."""


@click.command()
@files.files_option
def validate(sources: tuple[str, ...]) -> None:
    """Check GoServices without a cluster.

    Prints one line for each problem, `spec.path: message`, with the file and the name before it
    where there are several GoServices, and ends with 2 if there is a problem. Other kinds are
    passed over.

    \b
    Examples:
      goservice validate -f checkout.yaml
      goservice validate -f deploy/ -f more/checkout.yaml
      kustomize build . | goservice validate -f -
    """
    for service in files.services(sources):
        click.echo(f"goservice/{service.name} is valid")


@click.command()
@files.files_option
@files.settings_option
@click.option("--commit", default=SAMPLE_COMMIT, help="The full commit to render for.")
@click.option("--dockerfile", "only_dockerfile", is_flag=True, help="Print the Dockerfile alone.")
@click.option(
    "--toolchain",
    type=click.Choice([kind.value for kind in Toolchain]),
    help="Where Go comes from, whatever the resource says; with Image the Dockerfile builds anywhere.",
)
def render(
    sources: tuple[str, ...],
    settings_file: Path | None,
    commit: str,
    only_dockerfile: bool,
    toolchain: str | None,
) -> None:
    """Print what the operator would create, without a cluster.

    The digest is all zeros: only a build can tell it.

    \b
    Examples:
      goservice render -f checkout.yaml
      goservice render -f app.yaml --dockerfile --toolchain Image > Dockerfile
      goservice render -f checkout.yaml --commit "$(git rev-parse HEAD)"
      goservice render -f checkout.yaml --settings settings.yaml
    """
    settings = files.settings(settings_file)
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        fail('--commit: must be a full commit of 40 hex digits, such as "$(git rev-parse HEAD)"', 2)
    for number, written in enumerate(files.services(sources)):
        service = _with_toolchain(written, Toolchain(toolchain)) if toolchain else written
        if only_dockerfile:
            inputs = inputs_hash(service, settings, commit)
            click.echo(dockerfile.render(service, settings, commit, inputs), nl=False)
            continue
        if number:
            click.echo("---")
        click.echo(
            yaml.safe_dump_all(objects(service, settings, commit), sort_keys=False), nl=False
        )


def _with_toolchain(service: GoService, toolchain: Toolchain) -> GoService:
    build = service.spec.build
    if toolchain is Toolchain.MOUNTED and build.packages:
        fail(f"--toolchain: {service.name} installs packages, which takes Image", 2)
    changed = build.model_copy(update={"toolchain": toolchain})
    return replace(service, spec=service.spec.model_copy(update={"build": changed}))


def objects(service: GoService, settings: Settings, commit: str) -> list[dict[str, Any]]:
    """Everything that the operator makes for a service, as it would be applied first."""
    inputs = inputs_hash(service, settings, commit)
    digest = service.spec.image.digest
    running = resources.Running(
        names.image(service, digest or SAMPLE_DIGEST), service.spec.user.uid, service.spec.time_zone
    )
    result = []
    if digest is None:
        build = names.build(service, inputs, 1)
        claim = resources.cache_claim(service)
        result += [
            *([claim] if claim else []),
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


@click.command("crd")
def print_crd() -> None:
    """Print the CustomResourceDefinition.

    \b
    Example:
      goservice crd | kubectl apply --server-side -f -
    """
    click.echo(crd.dump(), nl=False)
