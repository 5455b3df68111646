"""run and fetch: what pods of the operator run, not people."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from goservice.cli import files
from goservice.cli.words import fail
from goservice.errors import GoServiceError
from goservice.fetch import main


@click.command()
@files.settings_option
@click.option(
    "--kubeconfig", type=click.Path(exists=True, dir_okay=False), help="A kubeconfig file."
)
def run(settings_file: Path | None, kubeconfig: str | None) -> None:
    """Run the operator.

    Its pod does this. Without --settings it reads $GOSERVICE_SETTINGS, else
    /etc/goservice/settings.yaml; GOSERVICE_… variables win over the file.

    \b
    Examples:
      goservice run
      goservice run --settings settings.yaml --kubeconfig ~/.kube/config
    """
    from goservice import process

    settings = files.settings(settings_file, packaged=False)
    try:
        asyncio.run(process.run(settings, kubeconfig))
    except (GoServiceError, OSError) as error:
        fail(str(error), 1)


@click.command("fetch", hidden=True)
@click.option("--url", required=True)
@click.option("--commit", required=True)
@click.option("--revision", default="")
@click.option("--directory", default=".")
@click.option("--package", default=".")
@click.option("--into", required=True)
@click.option("--go-version", default="")
@click.option("--tags", default="")
@click.option("--termination-log", default="/dev/termination-log")
def fetch_source(**arguments: str) -> None:
    """Check out one commit: what the build pod's first container runs."""
    sys.exit(main.main(**arguments))
