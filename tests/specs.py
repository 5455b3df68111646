"""Strategies for specs: what the types accept, and what people with bad intentions write."""

from __future__ import annotations

import zoneinfo
from typing import Any, get_args

from hypothesis import strategies as st

from goservice.spec import types

HOSTILE = (
    "x\nRUN id", "x\r\nFROM evil", "$(HOME)", "${PATH}", "$HOME", "`id`", "a;id", "a && id", '"]',
    "\\", "x\\", "--from=evil", "-o", "a b", "'", "..", "../..", "/etc/passwd", "\u2028RUN id", "\0",
    "#", "x\n", "$(COMMIT)\n", "{{ x }}", "{% x %}", "builder", "<<EOF",
)  # fmt: skip


def text(kind: Any) -> st.SearchStrategy[str]:
    """Texts that a type accepts, from its own pattern."""
    bounds = next(m for m in get_args(kind) if isinstance(m, types.Text))
    return st.from_regex(bounds.pattern, fullmatch=True).filter(lambda t: len(t) <= bounds.longest)


def sometimes(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Mappings with any of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


def build(wild: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[dict[str, Any]]:
    """What `spec.build` may hold; with `wild` any text may be that instead."""

    def of(kind: Any) -> st.SearchStrategy[str]:
        return text(kind) if wild is None else text(kind) | wild

    files = st.fixed_dictionaries({"from": of(types.RepositoryPath), "to": of(types.AbsolutePath)})
    variables = st.fixed_dictionaries(
        {"name": of(types.VariableName), "value": of(types.VariableValue)}
    )
    return sometimes(
        package=of(types.Package),
        binary=of(types.Binary),
        builderImage=of(types.ImageReference),
        base=st.sampled_from(["Scratch", "Busybox", "Alpine", "Distroless", "Custom"]),
        baseImage=of(types.ImageReference),
        packages=st.lists(of(types.PackageName) | st.just("tzdata"), max_size=3, unique=True),
        packageMirror=of(types.MirrorURL),
        files=st.lists(files, max_size=3),
        tags=st.lists(of(types.BuildTag), max_size=3, unique=True),
        variables=st.lists(variables, max_size=3),
        modules=sometimes(
            proxy=of(types.ModuleProxy),
            download=st.sampled_from(["AfterSource", "BeforeSource"]),
        ),
    )


def bodies(wild: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[dict[str, Any]]:
    """Whole resources, as far as they reach an image."""

    def of(kind: Any) -> st.SearchStrategy[str]:
        return text(kind) if wild is None else text(kind) | wild

    name = st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
    git = st.fixed_dictionaries(
        {"url": of(types.GitURL)},
        optional={"revision": of(types.Revision), "directory": of(types.RepositoryPath)},
    )
    return st.fixed_dictionaries(
        {
            "metadata": st.fixed_dictionaries(
                {
                    "name": name if wild is None else name | wild,
                    "namespace": name if wild is None else name | wild,
                }
            ),
            "spec": st.fixed_dictionaries(
                {
                    "source": st.fixed_dictionaries({"git": git}),
                    "build": build(wild),
                    "image": st.fixed_dictionaries({"repository": of(types.ImageRepository)}),
                    "user": sometimes(
                        uid=st.integers(1, 2147483647) | st.just(65534), name=of(types.UserName)
                    ),
                    "timeZone": st.sampled_from(sorted(zoneinfo.available_timezones() & ZONES)),
                }
            ),
        }
    )


ZONES = frozenset(next(m for m in get_args(types.TimeZone) if isinstance(m, types.OneOf)).values)
