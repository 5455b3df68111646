"""How the image is built: the shape of `spec.build`."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from goservice.api.container import Resources
from goservice.api.fields import (
    AbsolutePath,
    Binary,
    BuildTag,
    ImageReference,
    MirrorURL,
    Model,
    ModuleProxy,
    ObjectName,
    Package,
    PackageName,
    Quantity,
    RepositoryPath,
    Rule,
    VariableName,
    VariableValue,
    distinct,
    listing,
    unique,
)
from goservice.api.reaches import Reaches
from goservice.api.rules import exactly_one, positive


class Base(StrEnum):
    """What the image stands on."""

    SCRATCH = "Scratch"
    BUSYBOX = "Busybox"
    ALPINE = "Alpine"
    DISTROLESS = "Distroless"
    CUSTOM = "Custom"


_NOT_THERE = "etc|proc|sys|dev|tmp|var/run|kaniko|gocache|toolchain"
"""Below / : what a build leaves out of the image, and what a volume hides when it runs."""


class CopiedFile(Model):
    """A file or folder of the repository that goes into the image."""

    rules = (
        Rule(
            f"!self.to.matches('^/({_NOT_THERE})(/|$)')",
            "must not be below /etc, /proc, /sys, /dev, /tmp, /var/run, /kaniko, /gocache or /toolchain: it would not be there",
            lambda self: not re.match(rf"/({_NOT_THERE})(/|\Z)", self.to),
            path="to",
        ),
    )

    source: RepositoryPath = Field(alias="from")
    """The file or folder, relative to the repository's root. A folder's contents go into `to`."""
    to: AbsolutePath
    """Where it goes in the image: an absolute path, not below /etc, /proc, /sys, /dev, /tmp (a volume of the pod), /var/run, /kaniko, /gocache or /toolchain (left out of images)."""


class Variable(Model):
    """A Go string variable set at link time (-X)."""

    name: VariableName
    """Package path and variable, such as main.version."""
    value: VariableValue
    """Its value. $(COMMIT), $(REVISION), $(INPUTS), $(NAME) and $(NAMESPACE) are filled in."""


class Download(StrEnum):
    """When the modules are downloaded."""

    AFTER_SOURCE = "AfterSource"
    BEFORE_SOURCE = "BeforeSource"


class Modules(Model):
    """How Go modules are downloaded."""

    proxy: ModuleProxy | None = None
    """A GOPROXY list, such as https://proxy.example.com,direct. The platform's if left out."""
    download: Download = Download.AFTER_SOURCE
    """AfterSource copies the repository first (works for every layout); BeforeSource downloads from go.mod and go.sum in a layer of its own."""


class Toolchain(StrEnum):
    """Where Go comes from in a build."""

    IMAGE = "Image"
    MOUNTED = "Mounted"


class BuildCache(Model):
    """A volume that keeps Go's caches from build to build: one that is there, or one that is made."""

    rules = (
        exactly_one("claimName", "size"),
        positive("size"),
        Rule(
            "!has(self.storageClassName) || has(self.size)",
            "needs size: a claim that is there has its class",
            lambda self: self.storage_class_name is None or self.size is not None,
            path="storageClassName",
        ),
    )

    claim_name: ObjectName | None = None
    """A PersistentVolumeClaim of the namespace. Services may share it: each has folders of its own."""
    size: Quantity | None = None
    """The size of a claim (NAME-build-cache, ReadWriteOnce) that is made for this service and goes with it, such as 5Gi. It can grow where the storage class lets it; one that is no longer asked for stays until you delete it."""
    storage_class_name: ObjectName | None = None
    """The made claim's storage class. The cluster's default if left out."""


class History(Model):
    """How many finished builds are kept."""

    succeeded: Annotated[int, Field(ge=1, le=20)] = 3
    """Successful builds (Job and ConfigMap) to keep."""
    failed: Annotated[int, Field(ge=1, le=20)] = 3
    """Failed builds to keep."""


class Build(Model):
    """How the image is built."""

    rules = (
        Rule(
            "!has(self.base) || self.base != 'Custom' || has(self.baseImage)",
            "is required when base is Custom",
            lambda self: self.base is not Base.CUSTOM or self.base_image is not None,
            path="baseImage",
        ),
        Rule(
            "!has(self.packageMirror) || (has(self.packages) && size(self.packages) > 0)",
            "needs packages to install",
            lambda self: self.package_mirror is None or bool(self.packages),
            path="packageMirror",
        ),
        Rule(
            "!has(self.baseImage) || !has(self.base) || self.base != 'Scratch'",
            "must not be set when base is Scratch; set base to Alpine, Busybox, Distroless or Custom",
            lambda self: self.base_image is None or self.base is not Base.SCRATCH,
            path="baseImage",
        ),
        Rule(
            "!has(self.toolchain) || self.toolchain != 'Mounted' || !has(self.packages) || size(self.packages) == 0",
            "must not be Mounted where packages are installed; set it to Image, or leave it out",
            lambda self: self.toolchain is not Toolchain.MOUNTED or not self.packages,
            path="toolchain",
        ),
    )

    package: Annotated[Package, Reaches.IMAGE] = "."
    """The main package, relative to the module's folder: . or ./cmd/checkout."""
    binary: Annotated[Binary | None, Reaches.IMAGE] = None
    """The name of the program in the image. metadata.name if left out."""
    builder_image: Annotated[ImageReference | None, Reaches.IMAGE] = None
    """The image that Go comes from, such as golang:1.27-alpine3.24. The platform's if left out."""
    base: Annotated[Base, Reaches.IMAGE] = Base.SCRATCH
    """What the image stands on: Scratch (nothing but the program), Busybox, Alpine, Distroless, or Custom."""
    base_image: Annotated[ImageReference | None, Reaches.IMAGE] = None
    """Pins or replaces the base's image, such as alpine:3.24. Required for Custom."""
    packages: Annotated[
        list[PackageName],
        Field(json_schema_extra={"x-kubernetes-list-type": "set"}, max_length=32),
        AfterValidator(distinct),
        Reaches.IMAGE,
    ] = []
    """Packages of the builder's distribution (Alpine or Debian) that are installed before the build. tzdata also puts the zone's file into the image."""
    package_mirror: Annotated[MirrorURL | None, Reaches.IMAGE] = None
    """A mirror to install packages from: an http(s) URL. It takes the place of as much of the distribution's as it names: the host, the folder (/alpine, /debian), an Alpine release (/alpine/v3.24), or a repository of it (/alpine/v3.24/main), which is then the only one. Needs packages."""
    files: Annotated[
        list[CopiedFile],
        listing(("to",), max_length=32),
        AfterValidator(unique("to")),
        Reaches.IMAGE,
    ] = []
    """Files and folders of the repository that go into the image, such as a config folder."""
    tags: Annotated[
        list[BuildTag],
        Field(json_schema_extra={"x-kubernetes-list-type": "set"}, max_length=32),
        AfterValidator(distinct),
        Reaches.IMAGE,
    ] = []
    """Go build tags."""
    variables: Annotated[
        list[Variable],
        listing(("name",), max_length=32),
        AfterValidator(unique("name")),
        Reaches.IMAGE,
    ] = []
    """Go string variables set at link time (-X), such as main.version."""
    modules: Annotated[Modules, Reaches.IMAGE] = Modules()
    """How Go modules are downloaded."""
    toolchain: Annotated[Toolchain | None, Reaches.NOTHING] = None
    """Where Go comes from. Mounted: from builderImage by a volume, beside a small builder stage, which is faster; Image: the builder stage stands on builderImage. If left out, Mounted where the platform says so, no packages are installed and builderImage is golang:1.21 or newer. The image that comes out is the same."""
    cache: Annotated[BuildCache | None, Reaches.NOTHING] = None
    """Keeps Go's caches from build to build, and compiles the standard library once for all. Nothing is kept if left out."""
    resources: Annotated[Resources | None, Reaches.NOTHING] = None
    """Requests and limits of the build. The platform's if left out."""
    timeout_seconds: Annotated[int, Field(ge=60, le=86400), Reaches.NOTHING] = 1800
    """Seconds after which a build is stopped, from when a node has its pod: what it waits for a node does not count."""
    history: Annotated[History, Reaches.NOTHING] = History()
    """How many finished builds are kept."""
