"""status: how a service is doing, or all of them, as a person would tell it."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterable, Sequence
from typing import Any

import click

from goservice.api.conditions import Type
from goservice.cli import target as targets
from goservice.cli.target import Target
from goservice.cli.words import Trouble, as_json, log_line, one_line, paint, say
from goservice.cluster.protocol import Cluster
from goservice.errors import Forbidden
from goservice.manifest import Manifest, find_condition

COLOURS = {"True": "green", "False": "red"}
"""The colour of a condition's status; Unknown is yellow."""

OTHERS = tuple(
    kind
    for kind in Type
    if kind not in (Type.READY, Type.RECONCILING, Type.STALLED, Type.AVAILABLE, Type.BUILT)
)
"""Conditions of which a line tells when they are False; the others are told in lines of their own."""

LABEL = 9
"""Characters of the column of labels, the spaces after them counted."""


@click.command()
@targets.optional_name_argument
@targets.options
@click.option("-A", "--all-namespaces", is_flag=True, help="The services of all namespaces.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print."
)
@click.option(
    "-w", "--watch", is_flag=True, help="Go on until the service is ready, stalled or suspended."
)
def status(
    name: str | None, target: Target, all_namespaces: bool, output: str, watch: bool
) -> None:
    """Say how a service is doing, and what to do next.

    With a NAME it ends with 0 when the service is ready, else with 1. Without one it lists the
    namespace's services, or all with -A, and ends with 0.

    \b
    Examples:
      goservice status checkout -n shop
      goservice status checkout -n shop --watch
      goservice status checkout -n shop -o json
      goservice status -A
    """
    if name is None:
        if watch:
            raise click.UsageError("--watch needs a NAME; for many: kubectl get goservices --watch")
        targets.ask(
            target,
            lambda cluster, where: show_all(cluster, None if all_namespaces else where, output),
        )
    if all_namespaces:
        raise click.UsageError("-A is for all services; leave NAME out, or name one with -n")
    targets.ask(target, lambda cluster, where: show(cluster, where, name, output, watch=watch))


async def show(cluster: Cluster, where: str, name: str, output: str, *, watch: bool) -> int:
    """One service, once or until it is ready, stalled or suspended; 0 when it is ready."""
    last = ""
    while True:
        body = await targets.find_service(cluster, where, name)
        seen = body.get("status") or {}
        text = as_json(seen) if output == "json" else story(body)
        if text != last:
            say(text)
            last = text
        is_ready = is_current(body) and find_condition(seen, Type.READY).get("status") == "True"
        rests = any(find_condition(seen, kind) for kind in (Type.STALLED, Type.SUSPENDED))
        if not watch or is_ready or (is_current(body) and rests):
            return 0 if is_ready else 1
        await asyncio.sleep(1)


async def show_all(cluster: Cluster, where: str | None, output: str) -> int:
    """A table of services, or their statuses as JSON."""
    try:
        listed = await targets.all_services(cluster, where)
    except Forbidden as error:
        if where is not None:
            raise
        raise Trouble(
            f"not allowed: {error}; name a namespace instead: goservice status -n NAMESPACE"
        ) from None
    found = sorted(
        listed,
        key=lambda body: (body["metadata"]["namespace"], body["metadata"]["name"]),
    )
    if output == "json":
        rows = [
            {
                "namespace": body["metadata"]["namespace"],
                "name": body["metadata"]["name"],
                "status": body.get("status") or {},
            }
            for body in found
        ]
        say(as_json(rows))
    elif found:
        say(table(found, datetime.datetime.now(datetime.UTC), namespaces=where is None))
    else:
        place = f"in the namespace {where}; all there are: goservice status -A" if where else ""
        say(f"there are no GoServices {place}".rstrip(), err=True)
    return 0


def is_current(body: Manifest) -> bool:
    """Whether the status speaks of the resource as it is now."""
    seen = (body.get("status") or {}).get("observedGeneration")
    return bool(seen == body["metadata"].get("generation"))


def table(found: Iterable[Manifest], now: datetime.datetime, *, namespaces: bool) -> str:
    """A row for each service."""
    head = ["NAME", "READY", "REASON", "PODS", "COMMIT", "AGE"]
    rows = [["NAMESPACE", *head] if namespaces else head]
    for body in found:
        metadata, seen = body["metadata"], body.get("status") or {}
        ready = find_condition(seen, Type.READY) or {
            **find_condition(seen, Type.SUSPENDED),
            "status": "Unknown",
        }
        pods = f"{seen.get('readyReplicas', 0)}/{seen['replicas']}" if "replicas" in seen else "-"
        row = [
            str(metadata["name"]),
            str(ready.get("status", "Unknown")),
            str(ready.get("reason", "-")),
            pods,
            str((seen.get("commit") or {}).get("sha", "-"))[:12],
            age(str(metadata.get("creationTimestamp", "")), now),
        ]
        row = [str(metadata["namespace"]), *row] if namespaces else row
        rows.append([one_line(cell) or "-" for cell in row])
    return "\n".join(_rows(rows))


def _rows(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    place = rows[0].index("READY")
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if row is not rows[0]:
            cells[place] = paint(cells[place], fg=COLOURS.get(row[place], "yellow"))
        yield "   ".join(cells).rstrip()


def age(since: str, now: datetime.datetime) -> str:
    """How long ago, in the largest unit, as kubectl has it."""
    try:
        seconds = int((now - datetime.datetime.fromisoformat(since)).total_seconds())
    except ValueError:
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{max(seconds, 0)}s"


def story(body: Manifest) -> str:
    """A service's status as a person would tell it."""
    seen = body.get("status") or {}
    ready = find_condition(seen, Type.READY) or find_condition(seen, Type.SUSPENDED)
    metadata = body["metadata"]
    colour = COLOURS.get(str(ready.get("status")), "yellow")
    reason = str(ready.get("reason", "the operator has not seen it yet"))
    lines = [
        f"{metadata['namespace']}/{metadata['name']}: {paint(one_line(reason), fg=colour, bold=True)}"
    ]
    if ready.get("message"):
        lines.append(f"  {one_line(ready['message'])}")
    if ready and not is_current(body) and not (body.get("spec") or {}).get("suspend"):
        lines.append("  The operator has not acted on the newest change yet.")
    lines += [_line(label, text) for label, text in _facts(seen) if text]
    for kind in OTHERS:
        found = find_condition(seen, kind)
        if found.get("status") == "False" and found.get("reason") != ready.get("reason"):
            lines.append(_line(kind, f"{found['reason']}: {found.get('message', '')}", "yellow"))
    for warned in seen.get("warnings") or ():
        lines.append(_line("Warning", f"{warned['field']}: {warned['message']}", "yellow"))
    build = seen.get("build") or {}
    if build.get("phase") == "Failed":
        lines += [f"    {log_line(line)}" for line in build.get("logTail", "").splitlines()[-12:]]
        lines.append(_line("Log", build.get("logsCommand", "")))
    return "\n".join(lines)


def _line(label: str, text: str, colour: str | None = None) -> str:
    shown = paint(label, fg=colour) if colour else label
    return f"  {shown}{' ' * max(1, LABEL - len(label))}{one_line(text)}"


def _facts(seen: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """What there is to know beside the verdict: label and text, empty where it is not known."""
    commit = seen.get("commit") or {}
    words = (str(commit.get("sha", ""))[:12], commit.get("message", ""), commit.get("author", ""))
    yield "Commit", ", ".join(word for word in words if word)
    yield "Serving", seen.get("servingImage", "")
    if "replicas" in seen:
        yield "Pods", f"{seen.get('readyReplicas', 0)} of {seen['replicas']} ready"
    yield "URL", seen.get("url", "")
    build = seen.get("build") or {}
    if build:
        why = ", ".join(build.get("trigger", ()))
        yield "Build", f"{build['name']}: {build.get('phase', '')}" + (f" ({why})" if why else "")
