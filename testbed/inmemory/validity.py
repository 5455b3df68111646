"""What the in-memory API server refuses in an object."""

import re

from goservice import errors
from goservice.manifest import Manifest
from testbed.inmemory import fieldpaths

NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""A DNS subdomain, as most names of objects are."""
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
"""The value of a label; it may be empty."""
SHORT_NAMES = {"Service", "GoService"}
"""Kinds whose names are DNS labels: no dots, at most 63 characters."""
IMMUTABLE = {"Deployment": ("spec", "selector"), "Job": ("spec", "template")}
"""The field of each kind that never changes."""


def check(key: tuple[str, str, str], live: Manifest, before: Manifest | None) -> None:
    kind, _, name = key
    longest = 63 if kind in SHORT_NAMES else 253
    if not NAME.fullmatch(name) or len(name) > longest or (kind in SHORT_NAMES and "." in name):
        raise errors.Invalid(f"{kind} {name}: metadata.name: Invalid value", status=422)
    for value in (live["metadata"].get("labels") or {}).values():
        if not isinstance(value, str) or not LABEL.fullmatch(value) or len(value) > 63:
            raise errors.Invalid(f"{kind} {name}: metadata.labels: Invalid value", status=422)
    if kind == "Deployment" and not {"selector", "template"} <= set(live["spec"]):
        raise errors.Invalid(f"{kind} {name}: spec.selector, spec.template: Required", status=422)
    fixed = IMMUTABLE.get(kind)
    if before is not None and fixed and fieldpaths.at(live, fixed) != fieldpaths.at(before, fixed):
        raise errors.Invalid(f"{kind} {name}: {'.'.join(fixed)}: field is immutable", status=422)
