"""The ServiceAccounts: the pods' and the build's; no token is mounted, and neither has a right."""

from __future__ import annotations

from goservice import names
from goservice.api.resource import GoService
from goservice.manifest import Manifest
from goservice.objects.metadata import metadata


def account(service: GoService) -> Manifest:
    """The service's own ServiceAccount, without a token."""
    return _account(service, service.name, "app")


def build_account(service: GoService) -> Manifest:
    """The build's ServiceAccount, without a token."""
    return _account(service, names.build_account(service), "build")


def _account(service: GoService, name: str, component: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(service, name, component),
        "automountServiceAccountToken": False,
    }
