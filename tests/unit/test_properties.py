"""What holds for every resource that is accepted, whatever its fields say.

`make properties EXAMPLES=100000` looks at more of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import yaml
from hypothesis import strategies as st

from goservice import names
from goservice.api import build, parsing
from goservice.api.build import Base, Download
from goservice.api.resource import GoService
from goservice.build import dockerfile, kaniko, skopeo, toolchain
from goservice.build.inputs import inputs_hash
from goservice.cli import offline, process
from goservice.data import data_dir
from goservice.errors import InvalidSpec
from goservice.settings import Settings
from tests.support import factories as f
from tests.support import generate, schemas
from tests.support.checks import Checks
from tests.support.dockerfiles import Instruction

ROOT = "/out/rootfs"
SETTINGS = (
    f.SETTINGS,
    f.SETTINGS.model_copy(
        update={"builds": f.SETTINGS.builds.model_copy(update={"toolchain_volume": "Image"})}
    ),
)
"""Of the install: Go is mounted, and comes by a container; or by an image volume."""
COPIED = ("--chown=65532:65532",)


@pytest.fixture(scope="module")
def checks() -> Iterator[Checks]:
    program = Checks()
    yield program
    program.close()


def holds(service: GoService, settings: Settings, checks: Checks) -> None:
    """Everything that this file promises of an accepted resource."""
    assert parsing.parse(written(service)).spec == service.spec
    objects = offline.objects(service, settings, f.COMMIT)
    for manifest in objects:
        for version in schemas.VERSIONS:
            assert schemas.faults(manifest, version) == [], manifest["kind"]
    has_good_names(objects)
    by_kind = {manifest["kind"]: manifest for manifest in objects}
    app = by_kind["Deployment"]["spec"]["template"]
    assert checks.forbidden("restricted", app) == ""
    if "Job" in by_kind:
        build = by_kind["Job"]["spec"]["template"]
        assert checks.forbidden("baseline", build) == ""
        assert checks.forbidden("restricted", {"spec": fetch_alone(build["spec"])}) == ""
        has_careful_arguments(service, build["spec"])
        is_the_template(service, checks)


def fetch_alone(pod: dict[str, Any]) -> dict[str, Any]:
    """The build's pod as if it had only the container that takes the source."""
    return {**pod, "containers": pod["initContainers"][:1], "initContainers": []}


def written(service: GoService) -> dict[str, Any]:
    """The resource as a user would write it, from what was parsed."""
    metadata = {"name": service.name, "namespace": service.namespace}
    return {"metadata": metadata, "spec": parsing.dump(service.spec)}


def has_good_names(objects: list[dict[str, Any]]) -> None:
    """Names that every kind takes, at most 63 long and different; label values likewise."""
    count = Counter((m["kind"], m["metadata"]["name"]) for m in objects)
    assert set(count.values()) == {1}
    for manifest in objects:
        metadata = manifest["metadata"]
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", metadata["name"])
        for value in metadata["labels"].values():
            assert re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", value)


def has_careful_arguments(service: GoService, pod: dict[str, Any]) -> None:
    """Every value is the value of its own flag, for `fetch` and for Kaniko."""
    source = service.spec.source
    assert source is not None
    fetch, *between, build = pod["initContainers"]
    assert [each["name"] for each in between] in ([], ["toolchain"])
    for each in between:
        assert (each["command"][:2], len(each["command"])) == (["sh", "-euc"], 4)
        assert not set(each["command"][2:] + each["args"]) - TOOLCHAIN_WORDS, "a text of a user"
    (push,) = pod["containers"]
    context = process.fetch_source.make_context("fetch", fetch["args"][1:])
    assert context.params["url"] == source.git.url
    assert context.params["commit"] == f.COMMIT
    assert context.params["revision"] == (source.git.revision or "")
    assert context.params["directory"] == source.git.directory
    assert context.params["package"] == service.spec.build.package
    assert context.params["into"] == kaniko.CONTEXT
    inputs = inputs_hash(service, f.SETTINGS, f.COMMIT)
    goal = names.destination(service, f.COMMIT, inputs)
    assert re.fullmatch(r"[A-Za-z0-9.:/_-]+:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", goal)
    assert build["args"].count(f"--destination={goal}") == 1
    assert push["command"] == skopeo.command()
    assert push["args"][1:4] == ["/dev/termination-log", f"oci:{kaniko.LAYOUT}", f"docker://{goal}"]
    assert push["args"][4] in ("", "plain")
    assert re.fullmatch(r"(/push-[0-9a-f]{32}/config\.json)?", push["args"][5])
    assert len(push["args"]) == 6
    words = build["args"]
    assert all(re.fullmatch(r"--[a-z-]+(=[^\s]*)?", word) for word in words), words
    assert len({word.partition("=")[0] for word in words}) == len(words)


def is_the_template(service: GoService, checks: Checks) -> None:
    """BuildKit reads the template's instructions, and each value where it belongs."""
    inputs = inputs_hash(service, f.SETTINGS, f.COMMIT)
    text = dockerfile.render(service, f.SETTINGS, f.COMMIT, inputs)
    reading = checks.dockerfile(text)
    assert reading.error == ""
    assert reading.variables == ()
    assert [without_scripts(each) for each in reading.instructions] == wanted(service, inputs)


def without_scripts(found: Instruction) -> Instruction:
    """A RUN without its text: a script that is ours is not worth repeating."""
    words = found.arguments
    if found.name == "RUN" and words[:2] == ("sh", "-euc"):
        assert words[2] in SCRIPTS
        return Instruction("RUN", words[3:], found.flags)
    if found.name == "RUN" and len(words) == 1:
        assert words[0] in SCRIPTS
        return Instruction("RUN", (), found.flags)
    return found


def _scripts() -> frozenset[str]:
    """The scripts of the template: those of resources that a person wrote and looked at."""
    found = set()
    program = Checks()
    for written in (
        {"packages": ["git"]},
        {"packages": ["tzdata"], "packageMirror": "https://m.example.com"},
        {"files": [{"from": "a", "to": "/a"}]},
        {"toolchain": "Image"},
    ):
        service = f.service(build=written, timeZone="Europe/Paris")
        text = dockerfile.render(service, f.SETTINGS, f.COMMIT)
        for each in program.dockerfile(text).instructions:
            if each.name == "RUN":
                found.add(each.arguments[2] if each.arguments[0] == "sh" else each.arguments[0])
    program.close()
    return frozenset(found)


SCRIPTS = _scripts()
TOOLCHAIN_WORDS = frozenset(
    word
    for written in (
        {},
        {"cache": {"claimName": "a"}},
        {"toolchain": "Image", "cache": {"claimName": "a"}},
    )
    for settings in SETTINGS
    for made in toolchain.containers(f.service(build=written), settings)
    for word in (made["command"] + made["args"])[2:]
)
"""What the toolchain's container is given, whoever writes the resource."""


def goes_by_a_volume(build: build.Build) -> bool:
    """Whether Go is mounted, said once more."""
    if build.toolchain is not None:
        return build.toolchain.value == "Mounted"
    image = build.builder_image or f.SETTINGS.images.builder
    told = re.search(r"(^|/)golang:1\.(\d+)(\.\d+)?(-[^:/@]+)?(@[^@]+)?$", image)
    return not build.packages and told is not None and int(told[2]) >= 21


def wanted(service: GoService, inputs: str) -> list[Instruction]:
    """The template, said once more in Python."""
    return [*builder_stage(service), *compilation(service, inputs), *final_stage(service)]


def run(*words: str) -> Instruction:
    return Instruction("RUN", words)


def builder_stage(service: GoService) -> Iterator[Instruction]:
    build, user = service.spec.build, service.spec.user
    source = service.spec.source
    assert source is not None
    mounted = goes_by_a_volume(build)
    go = build.builder_image or f.SETTINGS.images.builder
    yield Instruction("FROM", (f.SETTINGS.images.busybox if mounted else go, "AS", "builder"))
    yield Instruction("USER", ("0:0",))
    if build.packages:
        mirror = [dockerfile._substitution(build.package_mirror)] if build.package_mirror else []
        yield run("packages", *mirror, *build.packages)
    yield run()
    yield Instruction("USER", ("65532:65532",))
    path = (
        "/gocache/go/usr/local/go/bin:/toolchain/usr/local/go/bin:"
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    )
    trust = "/toolchain/etc/ssl/certs/ca-certificates.crt"
    yield environment(
        HOME="/build/home",
        GOCACHE="/gocache/build",
        GOMODCACHE="/gocache/mod",
        GOTMPDIR="/gocache/tmp",
        GOPROXY=build.modules.proxy or f.SETTINGS.builds.module_proxy,
        GOTOOLCHAIN="local",
        **({"PATH": path, "SSL_CERT_FILE": trust} if mounted else {}),
        CGO_ENABLED="0",
    )
    mine = f"{user.name}:x:{user.uid}:{user.uid}::/nonexistent:/sbin/nologin"
    nobody = ["nobody:x:65534:65534::/nonexistent:/sbin/nologin"] if user.uid != 65534 else []
    yield run("accounts", f"{ROOT}/etc", "root:x:0:0::/root:/sbin/nologin", *nobody, mine)
    if build.base is not Base.CUSTOM:
        yield run()
    zone = service.spec.time_zone
    if "tzdata" in build.packages:
        yield run("zone", zone, "/usr/share/zoneinfo", ROOT)
    elif zone != "UTC":
        yield run("zone", zone, "0" if build.base.value in ("Distroless", "Custom") else "1")
    directory = source.git.directory
    below = "" if directory == "." else f"/{directory}"
    yield Instruction("WORKDIR", (f"/build/src{below}",))
    if build.modules.download is Download.BEFORE_SOURCE:
        files = (f".{below}/go.mod", f".{below}/go.su[m]", "./")
        yield Instruction("COPY", files, COPIED)
        yield run("go", "mod", "download")
    yield Instruction("COPY", (".", "/build/src/"), COPIED)
    if build.files:
        pairs = [
            ("/build/src" if file.source == "." else f"/build/src/{file.source}", ROOT + file.to)
            for file in build.files
        ]
        yield run("files", *(word for pair in pairs for word in pair))


def environment(**values: str) -> Instruction:
    """BuildKit gives a name, a value and the sign between them, one after the other."""
    return Instruction("ENV", tuple(w for k, v in values.items() for w in (k, v, "=")))


def compilation(service: GoService, inputs: str) -> Iterator[Instruction]:
    build = service.spec.build
    tags = ",".join(["timetzdata", *(tag for tag in build.tags if tag != "timetzdata")])
    linker = ["-s", "-w"]
    for variable in build.variables:
        value = names.expand(variable.value, service, f.COMMIT, inputs)
        definition = f"{variable.name}={value}"
        assert not set("'\"\\\n\t") & set(definition)
        linker += ["-X", f"'{definition}'" if " " in definition else definition]
    goal = f"{ROOT}/app/{build.binary or service.name}"
    yield run(
        "go", "build", "-trimpath", "-buildvcs=false", "-tags", tags,
        "-ldflags", " ".join(linker), "-o", goal, build.package,
    )  # fmt: skip
    yield run("check", tags, build.package)


def final_stage(service: GoService) -> Iterator[Instruction]:
    build, source = service.spec.build, service.spec.source
    assert source is not None
    bases = {
        Base.SCRATCH: "scratch",
        Base.BUSYBOX: f.SETTINGS.images.busybox,
        Base.ALPINE: f.SETTINGS.images.alpine,
        Base.DISTROLESS: f.SETTINGS.images.distroless,
    }
    base = build.base_image or bases[build.base]
    yield Instruction("FROM", ("builder:latest" if base == "builder" else base,))
    label = "org.opencontainers.image"
    revision, origin = f"{label}.revision", f"{label}.source"
    yield Instruction("LABEL", (revision, f.COMMIT, "=", origin, source.git.url, "="))
    yield Instruction("WORKDIR", ("/app",))
    yield Instruction("COPY", (f"{ROOT}/", "/"), ("--from=builder", "--chown=0:0"))
    yield environment(TZ=service.spec.time_zone)
    yield Instruction("USER", (f"{service.spec.user.uid}:{service.spec.user.uid}",))
    yield Instruction("ENTRYPOINT", (f"/app/{build.binary or service.name}",))


@hypothesis.given(pair=generate.pairs(), settings=st.sampled_from(SETTINGS))
def test_every_accepted_resource_makes_what_it_says_and_a_hostile_text_stays_a_text(
    pair: tuple[dict[str, Any], dict[str, Any]], settings: Settings, checks: Checks
) -> None:
    made, poisoned = pair
    try:
        holds(parsing.parse(made), settings, checks)
    except InvalidSpec:
        hypothesis.reject()
    try:
        service = parsing.parse(poisoned)
    except InvalidSpec:
        return
    holds(service, settings, checks)


@pytest.mark.parametrize("leaf", generate.leaves(), ids=".".join)
def test_the_generator_sets_every_leaf(leaf: generate.Path) -> None:
    @hypothesis.settings(max_examples=3, database=None, phases=[hypothesis.Phase.generate])
    @hypothesis.given(made=generate.with_leaf(leaf))
    def sets_it(made: dict[str, Any]) -> None:
        assert reaches(made["spec"], leaf)
        parsing.parse(made)

    sets_it()


def reaches(value: Any, path: generate.Path) -> bool:
    """Whether a value has something at a place of the schema."""
    if not path:
        return True
    key, rest = path[0], path[1:]
    if key == "[]":
        return any(reaches(item, rest) for item in value)
    if key == "{}":
        return any(reaches(item, rest) for item in value.values())
    return isinstance(value, dict) and key in value and reaches(value[key], rest)


def test_fetch_alone_and_the_operator_are_restricted(checks: Checks) -> None:
    job = next(m for m in offline.objects(f.service(), f.SETTINGS, f.COMMIT) if m["kind"] == "Job")
    pod = job["spec"]["template"]["spec"]
    assert checks.forbidden("restricted", {"spec": fetch_alone(pod)}) == ""
    manifest = yaml.safe_load((data_dir("manifests") / "operator" / "deployment.yaml").read_text())
    assert checks.forbidden("restricted", manifest["spec"]["template"]) == ""


def test_pod_security_refuses_what_it_should(checks: Checks) -> None:
    job = next(m for m in offline.objects(f.service(), f.SETTINGS, f.COMMIT) if m["kind"] == "Job")
    template = job["spec"]["template"]
    assert "runAsNonRoot" in checks.forbidden("restricted", template)
    host = {"spec": {**template["spec"], "hostNetwork": True}}
    assert "host namespaces" in checks.forbidden("baseline", host)
