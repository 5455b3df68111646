"""Which of a service's objects to write, row by row of the table of children.

An object is applied only when the live one does not cover what is wanted, so a pass with nothing to
do sends nothing. The pod template stays as it is while its inputs do: a new operator version
restarts no pod.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from goservice import names
from goservice.api.conditions import Condition, Reason
from goservice.decide.contested import Deviation, Judgement, judge
from goservice.decide.facts import Facts
from goservice.decide.live_deployment import LiveDeployment
from goservice.decide.writes import Apply, Create, Delete, Write
from goservice.manifest import Manifest, covers, digest_of
from goservice.objects import deployment as deployments
from goservice.objects.children import Child, Upkeep, Wants, of_component
from goservice.objects.pod_template import Deployed, pod_template
from goservice.objects.template_inputs import template_hash

GOSERVICE, AUTOSCALER = "GoService", "Autoscaler"
"""Who writes the Deployment's `replicas`, as its annotation says."""


@dataclass(frozen=True)
class Upkept:
    """What there is to do, and to say, about a service's objects."""

    writes: tuple[Write, ...] = ()
    """In order."""
    deviations: tuple[Deviation, ...] = ()
    """Fields that are otherwise than applied, and stay so for now."""
    again: float | None = None
    """Seconds until an object that others write is to be looked at again."""
    rolls_out: bool = False
    """Whether the Deployment's pods are to be others than were applied last; more of them are none."""


def step(
    wants: Wants, facts: Facts, children: Sequence[Child], now: datetime, *, building: bool
) -> Upkept:
    """The writes of these rows in order. `building`: a build has a pod, or is about to have one."""
    found = list(_each(wants, facts, children, now, building=building))
    verdicts = [one for one in found if isinstance(one, Judgement)]
    again = [verdict.again for verdict in verdicts if verdict.again is not None]
    return Upkept(
        tuple(one for one in found if not isinstance(one, Judgement)),
        tuple(deviation for verdict in verdicts for deviation in verdict.deviations),
        min(again, default=None),
        any(_rolls_out(facts, one) for one in found if isinstance(one, Apply)),
    )


def _rolls_out(facts: Facts, write: Apply) -> bool:
    """Whether an apply brings other pods."""
    live, applied = facts.deployment, write.manifest
    notes = applied["metadata"].get("annotations", {})
    if applied["kind"] != "Deployment" or names.APPLIED not in notes:
        return False  # where a second manager holds the replicas, it applies nothing else
    made = notes[names.TEMPLATE], notes[names.RENDERED]
    return live is None or made != (live.template_inputs, live.rendered)


def _each(
    wants: Wants, facts: Facts, children: Sequence[Child], now: datetime, *, building: bool
) -> Iterable[Write | Judgement]:
    for child in of_component("build", children):
        yield from _written(child, wants, facts, now, building=building)
    if wants.deployed is None:
        return
    app = of_component("app", children)
    for child in app:
        if child.goes_first and child.wanted(wants) is None:
            yield from _removed(child, wants, facts)
    for child in app:
        yield from _written(child, wants, facts, now, building=building)


def served(children: Iterable[Child], absent: Collection[str]) -> tuple[Child, ...]:
    """The rows that are on: a kind that is not there is neither applied nor deleted."""
    return tuple(child for child in children if child.kind.kind not in absent)


def not_served(
    wants: Wants, children: Iterable[Child], absent: Collection[str]
) -> Iterable[Condition]:
    """What is said of each row that is off although the spec asks for its object."""
    if wants.deployed is None:
        return
    for child in children:
        if child.optional is None or child.kind.kind not in absent or not child.wanted(wants):
            continue
        kind, place = child.kind, f"{wants.service.namespace}/{child.name(wants.service)}"
        message = (
            f"The cluster does not serve {kind.kind} of {kind.api_version}, which the spec asks for;"
            f" {kind.kind} {place} is made once it does."
        )
        yield Condition(child.optional, "False", Reason.API_NOT_SERVED, message)


def _written(
    child: Child, wants: Wants, facts: Facts, now: datetime, *, building: bool
) -> Iterable[Write | Judgement]:
    match child.upkeep:
        case Upkeep.WATCHED:
            pass
        case Upkeep.CREATED:
            if wants.order is not None and (made := child.wanted(wants)) is not None:
                yield Create(made)
        case Upkeep.BEFORE_BUILD:
            yield from _before_build(child, wants, facts)
        case Upkeep.WHILE_BUILDING:
            yield from _while_building(child, wants, facts, building=building)
        case Upkeep.APPLIED:
            yield from _applied(child, wants, facts, now)
        case Upkeep.ROLLED_OUT:
            assert wants.deployed is not None
            yield from _rolled_out(wants, wants.deployed, facts, now)
        case _:
            assert_never(child.upkeep)


def _live(child: Child, wants: Wants, facts: Facts) -> Manifest | None:
    return facts.own.get((child.kind.kind, child.name(wants.service)))


def _before_build(child: Child, wants: Wants, facts: Facts) -> Iterable[Write]:
    wanted = child.wanted(wants)
    if wants.order is not None and wanted is not None and _live(child, wants, facts) is None:
        yield Apply(wanted)


def _while_building(child: Child, wants: Wants, facts: Facts, *, building: bool) -> Iterable[Write]:
    live, wanted = _live(child, wants, facts), child.wanted(wants)
    if wanted is None or (live is None and not building):
        return
    if live is not None:
        wanted = child.grown(live, wanted)
    if live is None or not covers(live, wanted):
        yield Apply(wanted)


def _applied(
    child: Child, wants: Wants, facts: Facts, now: datetime
) -> Iterable[Write | Judgement]:
    wanted = child.wanted(wants)
    if wanted is None:
        if not child.goes_first:
            yield from _removed(child, wants, facts)
        return
    marked = _marked(wanted, digest_of(wanted))
    place = child.kind.kind, child.name(wants.service)
    verdict = judge(_live(child, wants, facts), marked, facts.answers.get(place), now)
    yield verdict
    if verdict.apply:
        yield Apply(marked)


def _removed(child: Child, wants: Wants, facts: Facts) -> Iterable[Write]:
    live = _live(child, wants, facts)
    if live is not None:
        metadata = live["metadata"]
        yield Delete(child.kind.kind, metadata["namespace"], metadata["name"], metadata["uid"])


def _marked(wanted: Manifest, digest: str) -> Manifest:
    """The object with the hash of itself, so that a field that is no longer wanted is seen."""
    return _annotated(wanted, names.APPLIED, digest)


def _annotated(wanted: Manifest, key: str, value: str) -> Manifest:
    metadata = wanted["metadata"]
    annotations = {**metadata.get("annotations", {}), key: value}
    return {**wanted, "metadata": {**metadata, "annotations": annotations}}


# --- the Deployment -------------------------------------------------------------------------------


def _rolled_out(
    wants: Wants, deployed: Deployed, facts: Facts, now: datetime
) -> Iterable[Write | Judgement]:
    service, settings = wants.service, wants.settings
    live = facts.deployment
    template = pod_template(service, settings, deployed)
    rendered = digest_of(template)
    inputs = template_hash(service, settings, deployed)
    kept = _template_to_keep(live, inputs, rendered, template)
    owner = AUTOSCALER if service.spec.autoscaling else GOSERVICE
    restart = service.restart_requested_at
    notes = {
        **wants.notes,
        names.TEMPLATE: inputs,
        names.USER_ID: str(deployed.uid),
        names.TIME_ZONE: deployed.time_zone,
        names.REPLICAS_OF: owner,
        **({names.RESTART_HANDLED: restart} if restart else {}),
    }
    wanted = deployments.deployment(service, settings, deployed, notes, kept_template=kept)
    digest = digest_of({**wanted, "spec": {**wanted["spec"], "template": inputs}})
    notes[names.RENDERED] = live.rendered if live and kept else rendered
    marked = _marked({**wanted, "metadata": {**wanted["metadata"], "annotations": notes}}, digest)
    place = "Deployment", service.name
    verdict = judge(facts.own.get(place), marked, facts.answers.get(place), now)
    yield verdict
    if verdict.apply:
        # Beside what is compared: an older Deployment without it is as good.
        sent = _annotated(marked, names.IMAGE, deployed.image)
        yield from _with_replicas_handed_over(wants, live, owner, Apply(sent))


def _template_to_keep(
    live: LiveDeployment | None, inputs: str, rendered: str, template: Manifest
) -> Manifest | None:
    """The live template, when its inputs are the wanted ones and another version rendered it.

    Not where somebody has changed by hand what no version may differ in.
    """
    if live is None or live.template_inputs != inputs or live.rendered == rendered:
        return None
    return live.template if covers(live.template, _essential(live.template, template)) else None


def _essential(live: Manifest, template: Manifest) -> Manifest:
    """Of a pod template: image, its architecture, user, time zone and what Pod Security asks for.

    Of an image the digest counts: a webhook may name a mirror of its registry.
    """
    spec = template["spec"]
    [container] = spec["containers"]
    image = container["image"]
    for there in live.get("spec", {}).get("containers") or ():
        if there.get("name") == container["name"]:
            runs = str(there.get("image"))
            image = runs if runs.partition("@")[2] == image.partition("@")[2] else image
    return {
        "spec": {
            **({"nodeSelector": spec["nodeSelector"]} if "nodeSelector" in spec else {}),
            "securityContext": {
                key: value
                for key, value in spec["securityContext"].items()
                if key in ("runAsUser", "runAsGroup", "runAsNonRoot", "seccompProfile")
            },
            "containers": [
                {
                    "name": container["name"],
                    "image": image,
                    "env": [one for one in container["env"] if one["name"] == "TZ"],
                    "securityContext": container["securityContext"],
                }
            ],
        }
    }


def _with_replicas_handed_over(
    wants: Wants, live: LiveDeployment | None, owner: str, apply: Apply
) -> Iterable[Apply]:
    """The apply, and who holds `replicas` until the autoscaler takes them.

    An apply without `replicas` gives them up, and the API server then sets 1: a second field
    manager holds the count meanwhile.
    """
    service = wants.service
    scaling = service.spec.autoscaling
    if scaling is None:
        yield apply
        return
    least = scaling.min_replicas
    if live is None:
        yield apply
        if least > 1:
            yield Apply(deployments.handover(service, least), manager=names.HANDOVER)
        return
    if live.replicas_of != owner:
        count = max(1 if live.replicas is None else int(live.replicas), least)
        yield Apply(deployments.handover(service, count), manager=names.HANDOVER)
    yield apply
