"""rebuild: ask for a build of the newest commit."""

from __future__ import annotations

import datetime

import click

from goservice.api import resource
from goservice.cli import target as targets
from goservice.cli.target import Target
from goservice.cli.words import Trouble, say
from goservice.cluster.protocol import Cluster
from goservice.manifest import format_time


@click.command()
@targets.name_argument
@targets.options
def rebuild(name: str, target: Target) -> None:
    """Build the newest commit again, even if nothing has changed.

    It writes the annotation goservice.dev/rebuild-requested-at; the operator does the rest.

    \b
    Examples:
      goservice rebuild checkout -n shop
      goservice rebuild checkout && goservice logs checkout --follow
    """
    targets.ask(target, lambda cluster, where: request(cluster, where, name))


async def request(cluster: Cluster, where: str, name: str) -> int:
    """Write the request, and say what will come of it."""
    wanted = (await targets.find_service(cluster, where, name)).get("spec") or {}
    if (wanted.get("image") or {}).get("digest"):
        raise Trouble(
            f"goservice {where}/{name} builds nothing: spec.image.digest is set;"
            " remove it to build again"
        )
    now = format_time(datetime.datetime.now(datetime.UTC))
    body = {"metadata": {"annotations": {resource.REBUILD_ANNOTATION: now}}}
    await cluster.patch_merge(resource.KIND, where, name, body)
    if wanted.get("suspend"):
        say(f"goservice/{name} is suspended; it is rebuilt once spec.suspend is false")
    else:
        say(f"goservice/{name} is to be rebuilt; follow it: goservice status {name} -n {where} -w")
    return 0
