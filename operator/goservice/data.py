"""Where the files beside the code are: templates, the CRD, the install's settings."""

from __future__ import annotations

from pathlib import Path


def data_dir(name: str) -> Path:
    """The folder `name`: inside the installed package, else at the checkout's top."""
    packaged = Path(__file__).parent / name
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / name
