"""GoServices out of YAML files, folders and standard input, with every fault told at once."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from goservice import settings as settings_module
from goservice.api import parsing, resource
from goservice.api.resource import GoService
from goservice.cli import documents
from goservice.cli.documents import NotYAML
from goservice.cli.words import fail, one_line, say
from goservice.data import data_dir
from goservice.errors import InvalidSpec, SettingsError

NO_UID = "00000000-0000-0000-0000-000000000000"
"""The uid of a service that is in no cluster, for the owner references that `render` prints."""

MOST_BYTES = 16 << 20
"""Bytes of a file at the most: an object in a cluster has 3 MiB."""

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

files_option: Decorator = click.option(
    "-f",
    "--file",
    "sources",
    required=True,
    multiple=True,
    type=click.Path(exists=True, allow_dash=True),
    help="A YAML file, a folder of them, or - for standard input. May be given again.",
)
settings_option: Decorator = click.option(
    "--settings",
    "settings_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The platform's settings file; the released one's if left out.",
)


def services(sources: Sequence[str]) -> list[GoService]:
    """Every GoService of the files; ends with 2 and one line per problem if one is wrong."""
    result: list[GoService] = []
    faults: list[tuple[str, str]] = []
    found = 0
    for origin, document in _documents(sources):
        if not isinstance(document, dict) or document.get("kind") != resource.KIND:
            continue
        found += 1
        metadata = document.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        where = f"{origin}: {name or 'without a name'}"
        if document.get("apiVersion") != resource.API_VERSION:
            faults.append((where, f"apiVersion: must be {resource.API_VERSION}"))
            continue
        try:
            service = parsing.parse(document)
        except InvalidSpec as error:
            faults += [(where, str(problem)) for problem in error.problems]
        else:
            result.append(dataclasses.replace(service, uid=service.uid or NO_UID))
    for where, fault in faults:
        say(one_line(fault if found == 1 else f"{where}: {fault}"), err=True)
    if faults:
        sys.exit(2)
    if not result:
        fail(f"{', '.join(map(_shown, sources))}: has no GoService (kind: {resource.KIND})", 2)
    return result


def _documents(sources: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Each document of each file, with the file's name."""
    for source in sources:
        for file in _files(source):
            origin = _shown(source) if file is None else str(file)
            try:
                data = _read(file)
            except OSError as error:
                fail(f"{origin}: cannot be read: {error.strerror or error}", 2)
            if len(data) > MOST_BYTES:
                fail(f"{origin}: is longer than {MOST_BYTES >> 20} MiB; name a smaller file", 2)
            try:
                for document in documents.read(data):
                    yield origin, document
            except NotYAML as error:
                fail(f"{origin}{error}", 2)


def _read(file: Path | None) -> bytes:
    """What a file or standard input holds, and no more than a byte too much."""
    if file is None:
        return sys.stdin.buffer.read(MOST_BYTES + 1)
    with file.open("rb") as opened:
        return opened.read(MOST_BYTES + 1)


def _files(source: str) -> list[Path | None]:
    """The files that a source stands for; None is standard input."""
    if source == "-":
        return [None]
    path = Path(source)
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml") and p.is_file())
    if not found:
        fail(f"{source}: has no file called *.yaml or *.yml", 2)
    return [*found]


def _shown(source: str) -> str:
    return "standard input" if source == "-" else source


def settings(file: Path | None, *, packaged: bool = True) -> settings_module.Settings:
    """The platform's settings; with `packaged` the released ones where no file is named."""
    if file is None and packaged:
        file = data_dir("manifests") / "operator" / "settings.yaml"
    try:
        return settings_module.load(file, os.environ)
    except SettingsError as error:
        fail(str(error), 2)
