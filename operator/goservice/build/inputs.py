"""What goes into an image, and its hash: equal inputs are one build.

Fields say themselves that they reach the image (`Reaches.IMAGE`). Here they only get the names under
which the hash has always had them: what is recorded on Jobs and in tags must not change.
"""

from __future__ import annotations

from goservice.api.reaches import Reaches, Written, reaching, renamed
from goservice.api.resource import GoService
from goservice.manifest import digest_of
from goservice.settings import Settings

NAMES = {"source.git": "git", "image.repository": "repository", "image.tag": "tag"}
"""Fields that have another name in the hash than in the resource."""

STAND_INS = ("builder", "busybox", "alpine", "distroless", "moduleProxy", "packageMirror")
"""Settings that count only for services that do not say the same thing themselves."""


def image_inputs(service: GoService, settings: Settings, commit: str) -> Written:
    """Everything that reaches the image, and nothing else; defaults are left out.

    A new field or setting changes no hash while it has its default. The recorded hashes in the
    tests hold this.
    """
    return {
        "git": {},
        "build": {},
        **renamed(reaching(service.spec, Reaches.IMAGE), NAMES),
        **_revision_if_shown(service),
        "commit": commit,
        "name": service.name,
        "settings": _settings_that_reach(service, settings),
    }


def _revision_if_shown(service: GoService) -> Written:
    """The revision, where a linked variable shows it; the tag does not reach the image's content.

    Else it reaches nothing: it names a commit, and that is the input.
    """
    git = service.spec.source.git if service.spec.source else None
    texts = [variable.value for variable in service.spec.build.variables]
    shown = any("$(REVISION)" in text for text in texts)
    return {"revision": git.revision} if shown and git and git.revision else {}


def _settings_that_reach(service: GoService, settings: Settings) -> Written:
    """The platform's values that this service's image is made with.

    A stand-in counts where the service says nothing itself, any other for every service.
    """
    build = service.spec.build
    images = settings.images
    bases = {"Busybox": images.busybox, "Alpine": images.alpine, "Distroless": images.distroless}
    every = {**reaching(images, Reaches.IMAGE), **reaching(settings.builds, Reaches.IMAGE)}
    reach = {key: value for key, value in every.items() if key not in STAND_INS}
    if build.builder_image is None:
        reach["builder"] = images.builder
    if build.base_image is None and build.base.value in bases:
        reach["base"] = bases[build.base.value]
    if build.modules.proxy is None:
        reach["moduleProxy"] = settings.builds.module_proxy
    if build.packages and build.package_mirror is None and settings.builds.package_mirror:
        reach["packageMirror"] = settings.builds.package_mirror
    return reach


def inputs_hash(service: GoService, settings: Settings, commit: str) -> str:
    """The hash of the build's inputs: ten lower case hex characters."""
    return digest_of(image_inputs(service, settings, commit))
