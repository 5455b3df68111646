"""validate, render, crd: what needs no cluster."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import click
import yaml

from goservice import names
from goservice.api import crd, parsing
from goservice.api.build import Toolchain
from goservice.api.resource import GoService
from goservice.build import dockerfile
from goservice.build.inputs import inputs_hash
from goservice.cli import files
from goservice.cli.words import fail, say
from goservice.errors import InvalidSpec
from goservice.manifest import Manifest
from goservice.objects import children
from goservice.objects.children import BuildOrder, Wants
from goservice.objects.pod_template import Deployed
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
        say(f"goservice/{service.name} is valid")


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
            say(dockerfile.render(service, settings, commit, inputs), end="")
            continue
        if number:
            say("---")
        say(yaml.safe_dump_all(objects(service, settings, commit), sort_keys=False), end="")


def _with_toolchain(service: GoService, toolchain: Toolchain) -> GoService:
    """The service with the toolchain asked for; ends with 2 if the resource does not allow it."""
    spec = parsing.dump(service.spec)
    spec["build"] = {**spec.get("build", {}), "toolchain": toolchain.value}
    metadata = {"name": service.name, "namespace": service.namespace}
    try:
        changed = parsing.parse({"metadata": metadata, "spec": spec})
    except InvalidSpec as error:
        fail(f"--toolchain: {service.name}: {'; '.join(map(str, error.problems))}", 2)
    return replace(service, spec=changed.spec)


def objects(service: GoService, settings: Settings, commit: str) -> list[Manifest]:
    """Everything that the operator makes for a service, as it would be applied first."""
    digest = service.spec.image.digest
    image = names.image(service, digest or SAMPLE_DIGEST)
    order = None
    if digest is None:
        order = BuildOrder(commit, inputs_hash(service, settings, commit), attempt=1)
    deployed = Deployed(image, service.spec.user.uid, service.spec.time_zone)
    return children.rendered(Wants(service, settings, order, deployed))


@click.command("crd")
def print_crd() -> None:
    """Print the CustomResourceDefinition.

    \b
    Example:
      goservice crd | kubectl apply --server-side -f -
    """
    say(crd.dump(), end="")
