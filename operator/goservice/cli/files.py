"""GoServices out of YAML files, folders and standard input, with every fault told at once."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from goservice import settings as settings_module
from goservice.api import parsing, resource
from goservice.api.resource import GoService
from goservice.cli.words import fail
from goservice.data import data_dir
from goservice.errors import InvalidSpec, SettingsError

NO_UID = "00000000-0000-0000-0000-000000000000"
"""The uid of a service that is in no cluster, for the owner references that `render` prints."""

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
        click.echo(fault if found == 1 else f"{where}: {fault}", err=True)
    if faults:
        sys.exit(2)
    if not result:
        fail(f"{', '.join(map(_shown, sources))}: has no GoService (kind: {resource.KIND})", 2)
    return result


def _documents(sources: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Each document of each file, with the file's name."""
    for source in sources:
        for file in _files(source):
            try:
                data = sys.stdin.buffer.read() if file is None else file.read_bytes()
            except OSError as error:
                fail(f"{source}: cannot be read: {error.strerror}", 2)
            origin = _shown(source) if file is None else str(file)
            try:
                documents = [d for d in yaml.safe_load_all(data) if d is not None]
            except yaml.YAMLError as error:
                fail(_not_yaml(origin, error), 2)
            for document in documents:
                yield origin, document


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


def _not_yaml(origin: str, error: yaml.YAMLError) -> str:
    """Where a file stops being YAML, as compilers say it, and why."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{origin}:{mark.line + 1}:{mark.column + 1}: is not YAML: {error.problem}"
    return f"{origin}: is not YAML: {' '.join(str(error).split())}"


def settings(file: Path | None, *, packaged: bool = True) -> settings_module.Settings:
    """The platform's settings; with `packaged` the released ones where no file is named."""
    if file is None and packaged:
        file = data_dir("manifests") / "operator" / "settings.yaml"
    try:
        return settings_module.load(file, os.environ)
    except SettingsError as error:
        fail(str(error), 2)
