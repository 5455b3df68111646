"""Which of a service's objects to write, row by row of the table of children.

An object is applied only when the live one does not cover what is wanted, so a pass with nothing to
do sends nothing. The pod template stays as it is while its inputs do: a new operator version
restarts no pod.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import assert_never

from goservice import names
from goservice.api.conditions import Condition, Reason
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


def writes(
    wants: Wants, facts: Facts, children: Sequence[Child], *, building: bool
) -> Iterable[Write]:
    """The writes of these rows in order. `building`: a build has a pod, or is about to have one."""
    for child in of_component("build", children):
        yield from _written(child, wants, facts, building=building)
    if wants.deployed is None:
        return
    app = of_component("app", children)
    for child in app:
        if child.goes_first and child.wanted(wants) is None:
            yield from _removed(child, wants, facts)
    for child in app:
        yield from _written(child, wants, facts, building=building)


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


def _written(child: Child, wants: Wants, facts: Facts, *, building: bool) -> Iterable[Write]:
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
            yield from _applied(child, wants, facts)
        case Upkeep.ROLLED_OUT:
            assert wants.deployed is not None
            yield from _rolled_out(wants, wants.deployed, facts)
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
    if wanted is None or (live is None and not building) or (live and covers(live, wanted)):
        return
    yield Apply(wanted)


def _applied(child: Child, wants: Wants, facts: Facts) -> Iterable[Write]:
    wanted = child.wanted(wants)
    if wanted is None:
        if not child.goes_first:
            yield from _removed(child, wants, facts)
        return
    marked = _marked(wanted, digest_of(wanted))
    live = _live(child, wants, facts)
    if live is None or not covers(live, marked):
        yield Apply(marked)


def _removed(child: Child, wants: Wants, facts: Facts) -> Iterable[Write]:
    live = _live(child, wants, facts)
    if live is not None:
        metadata = live["metadata"]
        yield Delete(child.kind.kind, metadata["namespace"], metadata["name"], metadata["uid"])


def _marked(wanted: Manifest, digest: str) -> Manifest:
    """The object with the hash of itself, so that a field that is no longer wanted is seen."""
    metadata = wanted["metadata"]
    annotations = {**metadata.get("annotations", {}), names.APPLIED: digest}
    return {**wanted, "metadata": {**metadata, "annotations": annotations}}


# --- the Deployment -------------------------------------------------------------------------------


def _rolled_out(wants: Wants, deployed: Deployed, facts: Facts) -> Iterable[Write]:
    service, settings = wants.service, wants.settings
    live = facts.deployment
    rendered = digest_of(pod_template(service, settings, deployed))
    inputs = template_hash(service, settings, deployed)
    kept = _template_to_keep(live, inputs, rendered)
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
    if live is not None and covers(facts.own["Deployment", service.name], marked):
        return
    yield from _with_replicas_handed_over(wants, live, owner, Apply(marked))


def _template_to_keep(live: LiveDeployment | None, inputs: str, rendered: str) -> Manifest | None:
    """The live template, when its inputs are the wanted ones and another version rendered it."""
    if live is None or live.template_inputs != inputs or live.rendered == rendered:
        return None
    return live.template


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
