"""YAML as the API server reads it and people write it: a time is a text, and nothing has an anchor."""

from __future__ import annotations

from typing import Any

import yaml
from typing_extensions import override

_TIMESTAMP = "tag:yaml.org,2002:timestamp"
"""What PyYAML makes a datetime of, though Kubernetes has it as a string."""


def _without_timestamps(resolvers: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {
        first: [(tag, pattern) for tag, pattern in rows if tag != _TIMESTAMP]
        for first, rows in resolvers.items()
    }


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _without_timestamps(yaml.SafeLoader.yaml_implicit_resolvers)


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _without_timestamps(yaml.SafeDumper.yaml_implicit_resolvers)

    @override
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    )


_Dumper.add_representer(str, _string)


def load(text: str) -> Any:
    """The one document of a text."""
    return yaml.load(text, Loader=_Loader)


def dump(value: Any) -> str:
    """A value as a text, its keys in the order that they have."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)
