"""The shapes of `spec.autoscaling` that are autoscaling/v2's own: metrics and behavior.

They carry the core names, so that people can copy from any HorizontalPodAutoscaler.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from goservice.api.container import ContainerName, LabelKey, LabelValue, ResourceName
from goservice.api.fields import SUBDOMAIN, Model, ObjectName, Quantity, Rule, Text, listing
from goservice.api.rules import _snake, positive

MetricName = Annotated[
    str,
    Text(
        r"[A-Za-z0-9_:|-][A-Za-z0-9_.:|-]*",
        253,
        "a metric name (letters, digits, _, ., :, | and -)",
    ),
]


def _as_its_type(**fields: str) -> Rule:
    """The rule that a target has the field of its type, and no other: `Value="value"`."""
    each = [f"(self.type == '{kind}') == has(self.{field})" for kind, field in fields.items()]
    named = ", ".join(f"{kind}: {field}" for kind, field in fields.items())

    def holds(self: Any) -> bool:
        return all(
            (self.type == kind) == (getattr(self, _snake(field)) is not None)
            for kind, field in fields.items()
        )

    message = f"must have the one value that its type names ({named}) and no other"
    return Rule(" && ".join(each), message, holds)


class ShareTargetType(StrEnum):
    """How a target of CPU or memory is written."""

    UTILIZATION = "Utilization"
    AVERAGE_VALUE = "AverageValue"


class ShareTarget(Model):
    """The CPU or memory that an autoscaler steers to."""

    rules = (
        _as_its_type(Utilization="averageUtilization", AverageValue="averageValue"),
        positive("averageValue"),
    )

    type: ShareTargetType
    """Which of the values below is meant."""
    average_value: Quantity | None = None
    """Of the metric, per pod."""
    average_utilization: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Of the pods' requests, in percent."""


class PodsTargetType(StrEnum):
    """How a target per pod is written."""

    AVERAGE_VALUE = "AverageValue"


class PodsTarget(Model):
    """The value per pod that an autoscaler steers to."""

    rules = (positive("averageValue"),)

    type: PodsTargetType
    """Which of the values below is meant."""
    average_value: Quantity
    """Of the metric, per pod."""


class ValueTargetType(StrEnum):
    """How a target of one number is written."""

    VALUE = "Value"
    AVERAGE_VALUE = "AverageValue"


class ValueTarget(Model):
    """The value that an autoscaler steers to."""

    rules = (
        _as_its_type(Value="value", AverageValue="averageValue"),
        positive("value"),
        positive("averageValue"),
    )

    type: ValueTargetType
    """Which of the values below is meant."""
    value: Quantity | None = None
    """Of the metric as a whole."""
    average_value: Quantity | None = None
    """Of the metric, per pod."""


class LabelExpression(Model):
    """One requirement on labels."""

    rules = (
        Rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            "must have values for In and NotIn, and none for Exists and DoesNotExist",
            lambda self: (
                (self.operator in (LabelOperator.IN, LabelOperator.NOT_IN)) == bool(self.values)
            ),
            path="values",
        ),
    )

    key: LabelKey
    """The label."""
    operator: LabelOperator
    """How its value relates to `values`."""
    values: Annotated[list[LabelValue], listing(max_length=16)] | None = None
    """The values."""


class LabelOperator(StrEnum):
    """How a label relates to values."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class LabelSelector(Model):
    """Which series of a metric count."""

    match_labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=16)] | None = None
    """Labels and their values."""
    match_expressions: Annotated[list[LabelExpression], listing(max_length=4)] | None = None
    """Further requirements."""


class MetricIdentifier(Model):
    """A metric by name."""

    name: MetricName
    """Its name."""
    selector: LabelSelector | None = None
    """Which of its series."""


class ResourceMetric(Model):
    """CPU or memory of the pods."""

    name: ResourceName
    """The resource."""
    target: ShareTarget
    """What to steer to."""


class ContainerResourceMetric(Model):
    """CPU or memory of one container."""

    container: ContainerName
    """The container; the service's own is called app."""
    name: ResourceName
    """The resource."""
    target: ShareTarget
    """What to steer to."""


class PodsMetric(Model):
    """A metric that every pod has."""

    metric: MetricIdentifier
    """Which."""
    target: PodsTarget
    """What to steer to."""


class ObjectReference(Model):
    """An object that a metric describes."""

    api_version: (
        Annotated[
            str, Text(rf"(({SUBDOMAIN})/)?v[a-z0-9]+", 253, "an apiVersion such as v1 or apps/v1")
        ]
        | None
    ) = None
    """Its apiVersion."""
    kind: Annotated[str, Text(r"[A-Za-z][A-Za-z0-9]*", 63, "a kind such as Ingress")]
    """Its kind."""
    name: ObjectName
    """Its name."""


class ObjectMetric(Model):
    """A metric of another object."""

    described_object: ObjectReference
    """The object."""
    metric: MetricIdentifier
    """Which metric."""
    target: ValueTarget
    """What to steer to."""


class ExternalMetric(Model):
    """A metric from outside the cluster."""

    metric: MetricIdentifier
    """Which."""
    target: ValueTarget
    """What to steer to."""


class MetricType(StrEnum):
    """Where a metric comes from."""

    RESOURCE = "Resource"
    CONTAINER_RESOURCE = "ContainerResource"
    PODS = "Pods"
    OBJECT = "Object"
    EXTERNAL = "External"


class Metric(Model):
    """One metric of the autoscaler, in the shape of autoscaling/v2."""

    rules = (
        Rule(
            "(self.type == 'Resource') == has(self.resource)"
            " && (self.type == 'ContainerResource') == has(self.containerResource)"
            " && (self.type == 'Pods') == has(self.pods)"
            " && (self.type == 'Object') == has(self.object)"
            " && (self.type == 'External') == has(self.external)",
            "must have the one field that its type names (Resource: resource, Pods: pods, …) and no other",
            lambda self: (
                {
                    kind
                    for kind, value in (
                        (MetricType.RESOURCE, self.resource),
                        (MetricType.CONTAINER_RESOURCE, self.container_resource),
                        (MetricType.PODS, self.pods),
                        (MetricType.OBJECT, self.object),
                        (MetricType.EXTERNAL, self.external),
                    )
                    if value is not None
                }
                == {self.type}
            ),
        ),
    )

    type: MetricType
    """Where it comes from."""
    resource: ResourceMetric | None = None
    """CPU or memory of the pods."""
    container_resource: ContainerResourceMetric | None = None
    """CPU or memory of one container."""
    pods: PodsMetric | None = None
    """A metric that every pod has."""
    object: ObjectMetric | None = None
    """A metric of another object."""
    external: ExternalMetric | None = None
    """A metric from outside the cluster."""


class ScalingPolicyType(StrEnum):
    """What a scaling policy counts."""

    PODS = "Pods"
    PERCENT = "Percent"


class ScalingPolicy(Model):
    """One bound on the speed of scaling."""

    type: ScalingPolicyType
    """What `value` counts."""
    value: Annotated[int, Field(ge=1, le=10000)]
    """Pods or percent per period."""
    period_seconds: Annotated[int, Field(ge=1, le=1800)]
    """The period, in seconds."""


class SelectPolicy(StrEnum):
    """Which of several policies counts."""

    MAX = "Max"
    MIN = "Min"
    DISABLED = "Disabled"


class ScalingRules(Model):
    """How fast to scale in one direction."""

    stabilization_window_seconds: Annotated[int, Field(ge=0, le=3600)] | None = None
    """Seconds of past advice to look back on."""
    select_policy: SelectPolicy | None = None
    """Which of the policies counts."""
    policies: Annotated[list[ScalingPolicy], listing(min_length=1, max_length=8)] | None = None
    """The bounds."""


class Behavior(Model):
    """How fast to scale, in the shape of autoscaling/v2."""

    scale_up: ScalingRules | None = None
    """Upwards."""
    scale_down: ScalingRules | None = None
    """Downwards."""
