"""What goes into an image, and its hash: equal inputs are one build."""

from __future__ import annotations

from goservice.api import parsing
from goservice.api.resource import GoService
from goservice.manifest import digest_of
from goservice.names import Canonical
from goservice.settings import Settings


def image_inputs(service: GoService, settings: Settings, commit: str) -> Canonical:
    """Everything that reaches the image, and nothing else; defaults are left out.

    A new field with a default changes no hash. The recorded hashes in the tests hold this.
    """
    written = parsing.dump(service.spec)
    git = written.get("source", {}).get("git", {})
    build = {
        key: value
        for key, value in written.get("build", {}).items()
        if key not in ("resources", "timeoutSeconds", "history", "toolchain", "cache")
    }
    image = written["image"]
    return {
        "commit": commit,
        "git": {key: git[key] for key in ("url", "directory") if key in git},
        "build": build,
        "repository": image["repository"],
        **{key: image[key] for key in ("tag",) if key in image},
        **{key: written[key] for key in ("user", "timeZone") if key in written},
        "name": service.name,
        **_revision_if_shown(service),
        "settings": _settings_that_reach(service, settings),
    }


def _revision_if_shown(service: GoService) -> Canonical:
    """The revision, where a linked variable shows it; the tag does not reach the image's content."""
    git = service.spec.source.git if service.spec.source else None
    texts = [variable.value for variable in service.spec.build.variables]
    shown = any("$(REVISION)" in text for text in texts)
    return {"revision": git.revision} if shown and git and git.revision else {}


def _settings_that_reach(service: GoService, settings: Settings) -> Canonical:
    """The platform's values that this service's image is made with."""
    build = service.spec.build
    images = settings.images
    bases = {"Busybox": images.busybox, "Alpine": images.alpine, "Distroless": images.distroless}
    reach: Canonical = {}
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
