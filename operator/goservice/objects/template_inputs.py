"""What goes into the pod template, and its hash: equal inputs need no new pods.

The hash stands on the Deployment. While it is the same, the template that runs is kept, even if a
newer operator would write it in another way: an upgrade restarts nobody's pods.

Fields and settings say themselves that they reach the pods (`Reaches.POD`). Here they only get the
names under which the hash has always had them.
"""

from __future__ import annotations

from goservice.api.reaches import Reaches, Written, reaching, renamed
from goservice.api.resource import GoService
from goservice.manifest import digest_of
from goservice.objects.pod_template import Deployed
from goservice.settings import Settings

NAMES = {
    "go": "runtime",
    "rollout": "stop",
    "image.pullSecretRefs": "pullSecrets",
    "image.digest": "digest",
}
"""Fields that have another name in the hash than in the resource."""


def template_hash(service: GoService, settings: Settings, deployed: Deployed) -> str:
    """The hash of everything that reaches the pod template: ten lower case hex characters.

    An operator version is no part of it, and a new field or setting changes no hash while it has its
    default.
    """
    reach = renamed(reaching(service.spec, Reaches.POD), NAMES)
    reach.pop("digest", None)  # the image that runs is this one as soon as it is set
    of_image = {f"image.{name}": value for name, value in reach.pop("image", {}).items()}
    return digest_of(
        {
            "stop": {},
            "pullSecrets": [],
            **reach,
            **of_image,
            **_ports(service),
            "image": deployed.image,
            "uid": deployed.uid,
            "timeZone": deployed.time_zone,
            "go": deployed.go,
            **({"arch": deployed.arch} if deployed.arch else {}),
            "restart": service.restart_requested_at,
            "settings": _settings_that_reach(settings),
        }
    )


def _ports(service: GoService) -> Written:
    """The ports with their servicePort, which reaches no pod: hashes have always had it."""
    return service.spec.model_dump(
        mode="json", by_alias=True, exclude_defaults=True, include={"ports"}
    )


def _settings_that_reach(settings: Settings) -> Written:
    """The platform's values that pods are made with.

    The first four were there before defaults were left out. They are in every hash as they are.
    """
    services = settings.services
    reach = reaching(services, Reaches.POD)
    of_resources = reach.pop("resources", {})
    for name in ("tmpSizeLimit", "runAsUser"):
        reach.pop(name, None)
    return {
        "resources": {
            **of_resources,
            "requests": services.resources.requests,
            "limits": services.resources.limits,
        },
        "tmp_size_limit": services.tmp_size_limit,
        "run_as_user": services.run_as_user,
        **reach,
    }
