"""How many examples the properties get: EXAMPLES, set by the Makefile, a hundred without it."""

from __future__ import annotations

import os

import hypothesis

hypothesis.settings.register_profile(
    "project",
    max_examples=int(os.environ.get("EXAMPLES", "100")),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
)
hypothesis.settings.load_profile("project")
