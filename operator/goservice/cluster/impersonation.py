"""Whom a kubeconfig acts as: its user's `as`, `as-uid`, `as-groups` and `as-user-extra`.

The Kubernetes client for Python and kopf pass them over in silence, so that a command would act with
the rights of the real user. Here they become the headers that kubectl sends.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from multidict import CIMultiDict

from goservice.errors import SettingsError


def headers(kubeconfig: str, context: str | None = None) -> CIMultiDict[str]:
    """The headers for each request; none if the kubeconfig acts as nobody else.

    `kubeconfig` names one file or several, as $KUBECONFIG does; the first that has a thing wins.

    Raises:
        SettingsError: a field is not as Kubernetes has it. Never is a field passed over.
    """
    return CIMultiDict(_headers(_user(kubeconfig, context)))


def _user(kubeconfig: str, context: str | None) -> dict[str, Any]:
    """What the kubeconfigs say of the context's user; nothing where they name none."""
    files = [Path(part).expanduser() for part in kubeconfig.split(os.pathsep) if part]
    trees = [tree for file in files if isinstance(tree := _tree(file), dict)]
    current = next((t["current-context"] for t in trees if t.get("current-context")), None)
    name = _named(trees, "contexts", context or current).get("context") or {}
    user = _named(trees, "users", name.get("user") if isinstance(name, dict) else None)
    found = user.get("user")
    return found if isinstance(found, dict) else {}


def _tree(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_bytes())
    except (OSError, yaml.YAMLError):
        return None


def _named(trees: list[dict[str, Any]], key: str, name: object) -> dict[str, Any]:
    for tree in trees:
        for entry in tree.get(key) or ():
            if isinstance(entry, dict) and name is not None and entry.get("name") == name:
                return entry
    return {}


def _headers(user: dict[str, Any]) -> Iterator[tuple[str, str]]:
    acts_as = _text("as", user.get("as") or "")
    uid = _text("as-uid", user.get("as-uid") or "")
    groups = _texts("as-groups", user.get("as-groups") or [])
    extra = user.get("as-user-extra") or {}
    if not isinstance(extra, dict):
        raise SettingsError("the kubeconfig's as-user-extra must be names with lists of texts")
    if not acts_as:
        if uid or groups or extra:
            raise SettingsError(
                "the kubeconfig has as-uid, as-groups or as-user-extra and no as: say as whom to act"
            )
        return
    yield "Impersonate-User", acts_as
    if uid:
        yield "Impersonate-Uid", uid
    for group in groups:
        yield "Impersonate-Group", group
    for key, values in extra.items():
        # As client-go writes it: what no header's name may have, and the percent sign, in hex.
        name = quote(_text("as-user-extra", key), safe="!#$&'*+-.^_`|~")
        for value in _texts("as-user-extra", values):
            yield f"Impersonate-Extra-{name}", value


def _texts(field: str, values: object) -> list[str]:
    if not isinstance(values, list):
        raise SettingsError(f"the kubeconfig's {field} must be a list of texts")
    return [_text(field, value) for value in values]


def _text(field: str, value: object) -> str:
    if not isinstance(value, str) or re.search(r"[\x00-\x1f\x7f]", value):
        raise SettingsError(f"the kubeconfig's {field} must be a text without control characters")
    return value
