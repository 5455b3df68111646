"""The Dockerfile of a service: a pure function of the resource, the settings and the commit.

It never needs what is in the repository. Every value is validated by its type, and quoted here
for the place where it stands; the template has no logic beyond if and for. No text of a user can
become an instruction, a flag, a further argument or an expansion.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

import jinja2

from goservice import names
from goservice.api.build import Base, Build, Download
from goservice.api.resource import GoService, User
from goservice.build import shell, toolchain
from goservice.data import data_dir
from goservice.settings import Settings

SOURCE = "/build/src"
"""The repository in the builder stage, as Dockerfile.j2 copies it."""
ROOT = "/out/rootfs"
"""The folder of the builder stage that becomes the image's /, as Dockerfile.j2 copies it."""
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
"""CA certificates in a builder stage that stands on the builder image: Alpine and Debian have them here."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH of a builder stage with a mounted toolchain, after the toolchain's own: the usual one of images."""

_IS_MAIN = (
    'name="$(go list -f "{{.Name}}" -tags "$1" "$2")";\n'
    'if [ "$name" != main ]; then\n'
    'echo "package $2 is not a main package: it is package $name" >&2; exit 1; fi'
)
"""$1: build tags; $2: the package that was compiled."""
ZONES = "/usr/share/zoneinfo"
"""The folder of the zones' files, in the builder stage and in the image."""
_MIRRORED = ("alpine", "debian", "debian-security", "ubuntu")
"""Folders of mirrors that stand right behind the host in the distributions' own package lists."""


@dataclass(frozen=True)
class Values:
    """What the template shows, quoted for the place where it stands.

    A text that is empty leaves its part of the Dockerfile out.
    """

    service: str
    """NAMESPACE/NAME, for the comment at the top."""
    name: str
    """The service's name: the tag in the comment on building by hand."""
    builder: str
    """The image that the builder stage stands on."""
    mounted: str
    """The image whose toolchain is mounted; empty if the builder stage stands on it."""
    search_path: str
    """PATH of the builder stage while a toolchain is mounted."""
    certificates: str
    """Where the builder stage has CA certificates."""
    copy_certificates: bool
    """Whether the image gets them: a base of the user's own keeps what it has."""
    packages: str
    """The command that installs packages; empty if none is asked for."""
    zone: str
    """The command that copies the time zone's file, or says that Go does not know the zone; empty for UTC
    without tzdata."""
    accounts: str
    """The command that writes the image's /etc/passwd and /etc/group."""
    proxy: str
    """GOPROXY."""
    module: str
    """The module's folder in the builder stage, in which the build runs."""
    before_source: bool
    """Whether modules are downloaded from go.mod and go.sum alone, before the source is copied."""
    module_files: str
    """go.mod and go.sum, relative to the repository; go.su[m], as there may be none."""
    files: str
    """The command that lays out files of the repository; empty if there are none."""
    compile: str
    """The command that compiles, in exec form."""
    check: str
    """The command that makes sure that what was compiled is a program."""
    base: str
    """The image that the final stage stands on."""
    revision: str
    """The commit, for the image's label."""
    source: str
    """The repository's URL, for the image's label."""
    time_zone: str
    """TZ of the program, such as Europe/Berlin."""
    user: str
    """uid:gid of the program, as numbers."""
    entrypoint: str
    """The program, in exec form."""


def render(service: GoService, settings: Settings, commit: str, inputs: str = "") -> str:
    """The Dockerfile that builds the service at a commit; the repository is its context.

    Raises:
        ValueError: if a value cannot stand in a Dockerfile, such as a commit of two lines.
    """
    values = _values(service, settings, commit, inputs)
    shown = {field.name: getattr(values, field.name) for field in dataclasses.fields(values)}
    return _template("Dockerfile.j2").render(shown)


def dockerignore() -> str:
    """What stays out of the build context; it lies beside the Dockerfile."""
    return _template("dockerignore.j2").render()


@functools.cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(data_dir("templates")),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - not HTML: every value is quoted below
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)


def _values(service: GoService, settings: Settings, commit: str, inputs: str) -> Values:
    source = service.spec.source
    if source is None:
        raise ValueError("a service without spec.source has nothing to build")
    build = service.spec.build
    directory = source.git.directory
    go = toolchain.builder_image(service, settings)
    mounted = toolchain.mounted(service, settings)
    return Values(
        service=_word(f"{service.namespace}/{service.name}"),
        name=_word(service.name),
        builder=_word(settings.images.busybox if mounted else go),
        mounted=_word(go) if mounted else "",
        search_path=f"{toolchain.PATH}:{PATH}",
        certificates=toolchain.CERTIFICATES if mounted else CERTIFICATES,
        copy_certificates=build.base is not Base.CUSTOM,
        packages=_packages(build, settings),
        zone=_zone(service),
        accounts=_shell(
            shell.program("accounts"), "accounts", [f"{ROOT}/etc", *_accounts(service.spec.user)]
        ),
        proxy=_quoted(build.modules.proxy or settings.builds.module_proxy),
        module=_word(SOURCE if directory == "." else f"{SOURCE}/{directory}"),
        before_source=build.modules.download is Download.BEFORE_SOURCE,
        module_files=_word(f"./{directory}/go.mod") + " " + _word(f"./{directory}/go.su[m]")
        if directory != "."
        else "./go.mod ./go.su[m]",
        files=_files(build),
        compile=_compile(service, commit, inputs),
        check=_shell(_IS_MAIN, "check", [_tags(build), build.package]),
        base=_word(_no_stage(_base(build, settings))),
        revision=_quoted(commit),
        source=_quoted(source.git.url),
        time_zone=_quoted(service.spec.time_zone),
        user=f"{service.spec.user.uid}:{service.spec.user.uid}",
        entrypoint=json.dumps([f"/app/{_binary(service)}"]),
    )


def _packages(build: Build, settings: Settings) -> str:
    """The command that installs packages, empty if none is asked for."""
    if not build.packages:
        return ""
    mirror = build.package_mirror or settings.builds.package_mirror
    if not mirror:
        return _shell(shell.program("packages-install"), "packages", build.packages)
    script = shell.program("packages-mirror") + shell.program("packages-install")
    return _shell(script, "packages", [_substitution(mirror), *build.packages])


def _substitution(mirror: str) -> str:
    """The sed expression that points package lists at a mirror.

    What a mirror names takes the place of as much: a repository of Alpine (…/alpine/v3.24/main) of
    whole lines, a release (…/alpine/v3.24) of everything up to the release, any other of scheme and
    host. A folder that the lists have too (…/alpine, …/debian) is not taken twice.
    """
    mirror = mirror.rstrip("/")
    release = r"(v[0-9]+\.[0-9]+|edge|latest-stable)"
    theirs = rf"https?://[^[:space:]]+/{release}"
    if re.search(rf"/{release}/[^/]+$", mirror):
        return rf"s#{theirs}/[^/[:space:]]+/?[[:space:]]*$#{mirror}#"
    if re.search(rf"/{release}$", mirror):
        return rf"s#{theirs}/([^/[:space:]]+)/?[[:space:]]*$#{mirror}/\2#"
    host, _, folder = mirror.rpartition("/")
    if folder in _MIRRORED and not host.endswith("/"):
        mirror = host
    return f"s#https?://[^/[:space:]]+#{mirror}#g"


def _zone(service: GoService) -> str:
    """The command that sees to it that the program will find its zone."""
    zone, build = service.spec.time_zone, service.spec.build
    if "tzdata" in build.packages:
        return _shell(shell.program("zone-copy"), "zone", [zone, ZONES, ROOT])
    if zone == "UTC":
        return ""
    # A base of these may have the zone's file, which Go finds before its own database.
    may_have = build.base in (Base.DISTROLESS, Base.CUSTOM)
    return _shell(shell.program("zone-known"), "zone", [zone, "0" if may_have else "1"])


def _accounts(user: User) -> list[str]:
    """The lines of /etc/passwd: root, nobody and the user, no number twice."""
    nobody = "nobody:x:65534:65534::/nonexistent:/sbin/nologin"
    return [
        "root:x:0:0::/root:/sbin/nologin",
        *([nobody] if user.uid != 65534 else []),
        f"{user.name}:x:{user.uid}:{user.uid}::/nonexistent:/sbin/nologin",
    ]


def _files(build: Build) -> str:
    """The command that lays out files, empty if there are none."""
    pairs: list[str] = []
    for file in build.files:
        pairs += [SOURCE if file.source == "." else f"{SOURCE}/{file.source}", ROOT + file.to]
    return _shell(shell.program("files-copy"), "files", pairs) if pairs else ""


def _compile(service: GoService, commit: str, inputs: str) -> str:
    build = service.spec.build
    linker = ["-s", "-w"]
    for variable in build.variables:
        value = names.expand(variable.value, service, commit, inputs)
        linker += ["-X", _linked(f"{variable.name}={value}")]
    words = [
        "go", "build", "-trimpath", "-buildvcs=false", "-tags", _tags(build),
        "-ldflags", " ".join(linker), "-o", f"{ROOT}/app/{_binary(service)}", build.package,
    ]  # fmt: skip
    return json.dumps(words)


def _tags(build: Build) -> str:
    """The build tags, as go takes them."""
    return ",".join(["timetzdata", *(tag for tag in build.tags if tag != "timetzdata")])


def _linked(definition: str) -> str:
    """A -X definition inside -ldflags, which Go splits at spaces unless they are in quotes."""
    if re.search(r"""['"\\\s]""", definition.replace(" ", "")):
        raise ValueError(f"cannot stand in -ldflags: {definition!r}")
    return f"'{definition}'" if " " in definition else definition


def _base(build: Build, settings: Settings) -> str:
    """The image that the final stage starts from."""
    if build.base is Base.SCRATCH:
        return "scratch"
    platform = {
        Base.BUSYBOX: settings.images.busybox,
        Base.ALPINE: settings.images.alpine,
        Base.DISTROLESS: settings.images.distroless,
    }
    # Custom is not among them: the spec does not parse without a baseImage.
    return build.base_image or platform[build.base]


def _no_stage(image: str) -> str:
    """The image by a name that the build stage does not have."""
    return f"{image}:latest" if image == "builder" else image


def _binary(service: GoService) -> str:
    return service.spec.build.binary or service.name


def _shell(script: str, name: str, arguments: Iterable[str]) -> str:
    """A RUN in exec form: a fixed script, broken over lines, and its arguments as they are."""
    # The backslash before the line's end is Docker's, which joins the lines before reading JSON.
    body = " \\\n    ".join(json.dumps(line)[1:-1] for line in script.strip().splitlines())
    words = ", ".join(json.dumps(word) for word in (name, *arguments))
    return f'["sh", "-euc", "{body}", {words}]'


def _word(text: str) -> str:
    """A value that stands without quotes: one word, no expansion."""
    if not re.fullmatch(r"[A-Za-z0-9./][A-Za-z0-9._/:@+\[\]-]*", text):
        raise ValueError(f"cannot stand in a Dockerfile: {text!r}")
    return text


def _quoted(text: str) -> str:
    """A value in double quotes, without expansion."""
    if not text.isprintable():
        raise ValueError(f"cannot stand in a Dockerfile: {text!r}")
    return '"' + re.sub(r'(["\\$])', r"\\\1", text) + '"'
