"""What the operator counts, for Prometheus.

One `Metrics` per process, handed to whoever counts; it has a registry of its own, so that tests
can have many. No label ever names a service: the number of series does not grow with the fleet.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

PREFIX: Final = "goservice_operator_"
"""How every metric's name begins."""

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
"""The content type of `Metrics.text`."""

NAMES: Final[dict[str, str]] = {
    f"{PREFIX}passes_total": "Passes over a service, by outcome.",
    f"{PREFIX}pass_duration_seconds": "How long a pass took.",
    f"{PREFIX}api_requests_total": "Requests to the API server, by verb, kind and HTTP code.",
    f"{PREFIX}queue_depth": "Services that wait for a pass.",
    f"{PREFIX}queue_duration_seconds": "How long a service waited for its pass.",
    f"{PREFIX}builds_total": "Builds that ended, by result and reason.",
    f"{PREFIX}build_duration_seconds": "How long a build took from start to end.",
    f"{PREFIX}watch_last_event_timestamp_seconds": "When a watch last brought an event, by kind.",
    f"{PREFIX}watch_silence_seconds": "For how long nothing was heard on a watch, by kind.",
    f"{PREFIX}cache_objects": "Objects in the cache, by kind.",
    f"{PREFIX}loop_lag_seconds": "How late the event loop was when it was last looked at.",
    f"{PREFIX}sources_polls_total": "Questions to git servers, by result.",
    f"{PREFIX}sources_unresolved": "Repositories whose last question had no answer, by result: new commits are not followed.",
}
"""Every metric and its help text, in the order of the documentation."""

_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300)
"""Upper bounds in seconds of the buckets for passes and waits: most take milliseconds."""

_BUILD_SECONDS = (15, 30, 60, 120, 300, 600, 1200, 1800, 3600)
"""Upper bounds in seconds of the buckets for builds: most take a minute or some."""


class Metrics:
    """The operator's counters, histograms and gauges; attributes are called as the metrics are."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, *labels: str) -> Counter:
            return Counter(PREFIX + name, NAMES[PREFIX + name], labels, registry=registry)

        def gauge(name: str, *labels: str) -> Gauge:
            return Gauge(PREFIX + name, NAMES[PREFIX + name], labels, registry=registry)

        def histogram(name: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
            help_text = NAMES[PREFIX + name]
            return Histogram(PREFIX + name, help_text, buckets=buckets, registry=registry)

        self.passes_total = counter("passes_total", "outcome")
        self.pass_duration_seconds = histogram("pass_duration_seconds")
        self.api_requests_total = counter("api_requests_total", "verb", "kind", "code")
        self.queue_depth = gauge("queue_depth")
        self.queue_duration_seconds = histogram("queue_duration_seconds")
        self.builds_total = counter("builds_total", "result", "reason")
        self.build_duration_seconds = histogram("build_duration_seconds", _BUILD_SECONDS)
        self.watch_last_event_timestamp_seconds = gauge(
            "watch_last_event_timestamp_seconds", "kind"
        )
        self.watch_silence_seconds = gauge("watch_silence_seconds", "kind")
        self.cache_objects = gauge("cache_objects", "kind")
        self.loop_lag_seconds = gauge("loop_lag_seconds")
        self.sources_polls_total = counter("sources_polls_total", "result")
        self.sources_unresolved = gauge("sources_unresolved", "result")
        ProcessCollector(registry=registry)

    def passed(self, outcome: str, seconds: float) -> None:
        """Count one pass."""
        self.passes_total.labels(outcome=outcome).inc()
        self.pass_duration_seconds.observe(seconds)

    def built(self, result: str, reason: str, seconds: float | None) -> None:
        """Count one build that ended."""
        self.builds_total.labels(result=result, reason=reason).inc()
        if seconds is not None:
            self.build_duration_seconds.observe(seconds)

    def text(self) -> bytes:
        """Everything counted, in Prometheus' text format."""
        return generate_latest(self.registry)
