from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from goservice import settings
from goservice.api import parsing, resource
from goservice.api.build import Base, Download
from goservice.build import dockerfile
from goservice.errors import InvalidSpec
from tests.support import dockerfiles, factories, generate
from tests.support.dockerfiles import Instruction

COMMIT = factories.COMMIT


def rendered(**changes: Any) -> list[Instruction]:
    service = factories.service(**changes)
    return dockerfiles.parse(dockerfile.render(service, factories.SETTINGS, COMMIT, "0123456789"))


def final_stage(found: list[Instruction]) -> list[Instruction]:
    start = max(i for i, each in enumerate(found) if each.name == "FROM")
    return found[start:]


def wanted(service: resource.GoService) -> list[str]:
    """The instructions that the template has for a service, in order."""
    build = service.spec.build
    before = build.modules.download is Download.BEFORE_SOURCE
    return [
        "FROM", "USER",
        *(["RUN"] if build.packages else []),
        "RUN", "USER", "ENV", "RUN",
        *(["RUN"] if build.base is not Base.CUSTOM else []),
        *(["RUN"] if "tzdata" in build.packages or service.spec.time_zone != "UTC" else []),
        "WORKDIR",
        *(["COPY", "RUN", "COPY"] if before else ["COPY", "RUN"]),
        *(["RUN"] if build.files else []),
        "RUN",
        "FROM", "LABEL", "WORKDIR", "COPY", "ENV", "USER",
        "ENTRYPOINT",
    ]  # fmt: skip


def holds(service: resource.GoService) -> None:
    """The rendered file has the template's instructions, and values only where they belong."""
    found = dockerfiles.parse(dockerfile.render(service, factories.SETTINGS, COMMIT, "0123456789"))
    build, user = service.spec.build, service.spec.user
    source = service.spec.source
    assert source is not None
    binary = build.binary or service.name
    assert [each.name for each in found] == wanted(service)
    assert found[0].arguments == (
        build.builder_image or factories.SETTINGS.images.builder,
        "AS",
        "builder",
    )
    compile_ = [each for each in found if each.arguments[:2] == ("go", "build")]
    assert len(compile_) == 1
    words = compile_[0].arguments
    assert words[2:5] == ("-trimpath", "-buildvcs=false", "-tags")
    assert words[6] == "-ldflags"
    assert words[8:] == ("-o", f"/out/rootfs/app/{binary}", build.package)
    assert len(words) == 11
    assert set(words[5].split(",")) == {"timetzdata", *build.tags}
    assert words[7].count("-X ") >= len(build.variables)
    last = final_stage(found)
    assert len(last[0].arguments) == 1
    assert last[0].arguments != ("builder",)
    assert last[1].arguments == (
        f"org.opencontainers.image.revision={COMMIT}",
        f"org.opencontainers.image.source={source.git.url}",
    )
    assert last[2:] == [
        Instruction("WORKDIR", ("/app",)),
        Instruction("COPY", ("/out/rootfs/", "/"), ("--from=builder", "--chown=0:0")),
        Instruction("ENV", (f"TZ={service.spec.time_zone}",)),
        Instruction("USER", (f"{user.uid}:{user.uid}",)),
        Instruction("ENTRYPOINT", (f"/app/{binary}",)),
    ]
    for each in found:
        assert all("\n" not in word for word in each.arguments if each.name != "RUN")
        if each.name == "COPY":
            assert all(flag.startswith(("--chown=", "--from=builder")) for flag in each.flags)


@pytest.mark.parametrize("hostile", generate.HOSTILE)
@pytest.mark.parametrize(
    "place",
    [
        "source.git.url", "source.git.directory", "build.package", "build.binary",
        "build.builderImage", "build.packageMirror", "build.modules.proxy", "user.name",
    ],
)  # fmt: skip
def test_a_hostile_text_in_each_place(place: str, hostile: str) -> None:
    body = factories.body(build={"packages": ["tzdata"]})
    *parents, last = place.split(".")
    target = body["spec"]
    for parent in parents:
        target = target.setdefault(parent, {})
    target[last] = hostile
    try:
        service = parsing.parse(body)
    except InvalidSpec as error:
        refused = [problem.path for problem in error.problems]
    else:
        holds(service)
        refused = [f"spec.{place}"]
    assert refused == [f"spec.{place}"]


def test_only_the_builder_stage_runs_anything() -> None:
    found = rendered(build={"files": [{"from": "config", "to": "/app/config"}]})
    assert "RUN" not in [each.name for each in final_stage(found)]


def test_nothing_runs_as_root_once_user_code_is_there() -> None:
    found = rendered(build={"packages": ["git"], "modules": {"download": "BeforeSource"}})
    users = [i for i, each in enumerate(found) if each.name == "USER"]
    copy = next(i for i, each in enumerate(found) if each.name == "COPY")
    assert [found[i].arguments for i in users[:2]] == [("0:0",), ("65532:65532",)]
    # A builder image may have a user of its own: root comes before the first RUN.
    assert users[0] < next(i for i, each in enumerate(found) if each.name == "RUN")
    assert users[1] < copy < users[2]


@pytest.mark.parametrize(
    ("build", "image"),
    [
        ({}, "scratch"),
        ({"base": "Busybox"}, "busybox:1.37"),
        ({"base": "Busybox", "baseImage": "busybox:1.36"}, "busybox:1.36"),
        ({"base": "Alpine"}, "alpine:3.24"),
        ({"base": "Alpine", "baseImage": "alpine:3.16"}, "alpine:3.16"),
        ({"base": "Distroless"}, "gcr.io/distroless/static-debian13:nonroot"),
        ({"base": "Custom", "baseImage": "a.example.com/b:1"}, "a.example.com/b:1"),
        ({"base": "Custom", "baseImage": "builder"}, "builder:latest"),
    ],
)
def test_base(build: dict[str, Any], image: str) -> None:
    assert final_stage(rendered(build=build))[0].arguments == (image,)


def test_a_custom_base_keeps_its_own_certificates() -> None:
    custom = dockerfile.render(
        factories.service(build={"base": "Custom", "baseImage": "a.example.com/b:1"}),
        factories.SETTINGS,
        COMMIT,
    )
    assert "ca-certificates.crt /out" not in custom


def test_variables_are_filled_in_and_quoted() -> None:
    found = rendered(
        source={"git": {"url": "https://git.example.com/a", "revision": "release/2"}},
        build={
            "variables": [
                {"name": "main.revision", "value": "$(REVISION)"},
                {"name": "main.about", "value": "$(NAMESPACE) $(NAME) $(INPUTS)"},
                {"name": "main.empty", "value": ""},
            ]
        },
    )
    compile_ = next(each for each in found if each.arguments[:2] == ("go", "build"))
    assert compile_.arguments[7] == (
        "-s -w -X main.revision=release-2 -X 'main.about=shop checkout 0123456789' -X main.empty="
    )


def test_user_and_nobody_of_one_number_are_one_user() -> None:
    passwd = next(
        each
        for each in rendered(user={"uid": 65534, "name": "svc"})
        if "accounts" in each.arguments
    )
    assert passwd.arguments[5:] == (
        "root:x:0:0::/root:/sbin/nologin",
        "svc:x:65534:65534::/nonexistent:/sbin/nologin",
    )


@pytest.mark.parametrize(("name", "code"), [("main", 0), ("shop", 1)])
def test_what_is_no_main_package_ends_the_build(tmp_path: Path, name: str, code: int) -> None:
    (check,) = (i for i in rendered() if i.arguments[3:4] == ("check",))
    (tmp_path / "go").write_text(
        f"#!/bin/sh\nprintf '%s\\n' \"$*\" > {tmp_path}/asked\necho {name}\n"
    )
    (tmp_path / "go").chmod(0o755)
    done = subprocess.run(
        ["sh", "-euc", *check.arguments[2:]],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert (tmp_path / "asked").read_text() == "list -f {{.Name}} -tags timetzdata .\n"
    assert done.returncode == code
    assert ("package . is not a main package: it is package shop" in done.stderr) == bool(code)


def test_without_a_mirror_the_lists_stay() -> None:
    install = rendered(build={"packages": ["git"]})[2]
    assert install.arguments[3:] == ("packages", "git")
    assert "sed" not in install.arguments[2]


def test_the_platform_s_mirror_and_proxy() -> None:
    builds = factories.SETTINGS.builds.model_copy(
        update={"package_mirror": "https://m.example.com", "module_proxy": 'https://"$x"'}
    )
    platform = factories.SETTINGS.model_copy(update={"builds": builds})
    text = dockerfile.render(factories.service(build={"packages": ["git"]}), platform, COMMIT)
    assert "https://m.example.com" in text
    assert r'GOPROXY="https://\"\$x\""' in text


def test_a_service_without_source_has_no_dockerfile() -> None:
    service = factories.service(
        source=None, image={"repository": "r.example.com/a", "digest": factories.DIGEST}
    )
    with pytest.raises(ValueError, match="nothing to build"):
        dockerfile.render(service, factories.SETTINGS, COMMIT)


@pytest.mark.parametrize("builder", ["golang:1.27\nRUN id", "golang 1.27", "-golang", "$IMAGE"])
def test_a_platform_image_that_is_none_is_refused(builder: str) -> None:
    images = factories.SETTINGS.images.model_copy(update={"builder": builder})
    platform: settings.Settings = factories.SETTINGS.model_copy(update={"images": images})
    with pytest.raises(ValueError, match="cannot stand in a Dockerfile"):
        dockerfile.render(factories.service(), platform, COMMIT)


def test_a_commit_of_two_lines_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot stand in a Dockerfile"):
        dockerfile.render(factories.service(), factories.SETTINGS, "abc\nRUN id")


def test_a_quote_in_ldflags_is_refused() -> None:
    service = factories.service(build={"variables": [{"name": "main.a", "value": "$(COMMIT)"}]})
    with pytest.raises(ValueError, match="cannot stand in -ldflags"):
        dockerfile.render(service, factories.SETTINGS, "' -X main.b=c")


def test_git_s_own_files_stay_out() -> None:
    assert "**/.git" in dockerfile.dockerignore().splitlines()
