"""Every metric has a name and a help text, and none names a service."""

import re

from goservice.metrics import NAMES, PREFIX, Metrics


def test_what_is_listed_is_what_is_exposed() -> None:
    text = Metrics().text().decode()
    found = {
        name if kind != "counter" or name.endswith("_total") else f"{name}_total"
        for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
        if name.startswith(PREFIX) and not name.endswith("_created")
    }
    assert found == set(NAMES)
    for name, meaning in NAMES.items():
        assert f"# HELP {name} {meaning}" in text


def test_no_series_is_made_per_service() -> None:
    for name in NAMES:
        attribute = getattr(Metrics(), name.removeprefix(PREFIX))
        assert not {"name", "namespace", "service"} & set(attribute._labelnames)


def test_a_pass_is_counted() -> None:
    metrics = Metrics()
    metrics.passed("ok", 0.2)
    text = metrics.text().decode()
    assert 'goservice_operator_passes_total{outcome="ok"} 1.0' in text
    assert "goservice_operator_pass_duration_seconds_sum 0.2" in text


def test_two_do_not_share_a_registry() -> None:
    one, other = Metrics(), Metrics()
    one.passed("ok", 1)
    assert 'outcome="ok"' not in other.text().decode()
