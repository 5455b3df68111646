"""Kubernetes quantities, such as 500m or 256Mi: what they mean, and how the API server writes them."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

QUANTITY = r"([0-9]+|[0-9]*\.[0-9]+|[0-9]+\.)([numkMGTPE]|[KMGTPE]i|[eE][0-9]{1,2})?"
"""A quantity as a user may write it: not negative, with one unit or an exponent without a sign."""

LARGEST = 2**63 - 1
"""The largest amount that the API server keeps of a quantity: an int64."""

_FACTORS = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal("1e3"), "M": Decimal("1e6"), "G": Decimal("1e9"), "T": Decimal("1e12"),
    "P": Decimal("1e15"), "E": Decimal("1e18"),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
    "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip
"""What a unit multiplies the number by."""


def amount(quantity: str) -> Decimal:
    """The number that a quantity stands for: cores, bytes.

    The API server writes exponents with a sign too, which users do not get to.
    """
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)(?:(?<=[eE])(-?[0-9]+))?", quantity)
    if match is None or not re.fullmatch(QUANTITY, re.sub("(?<=[eE])-", "", quantity)):
        raise ValueError(f"not a quantity: {quantity!r}")
    number, unit, exponent = match.groups()
    if exponent is not None:
        return Decimal(number) * Decimal(10) ** int(exponent)
    return Decimal(number) * _FACTORS[unit]


def same_quantity(live: object, wanted: object) -> bool:
    """Whether the API server keeps a quantity as another one: it writes 1000m as 1.

    It keeps at most an int64 (but for some of few digits), and rounds up to billionths; what pods and
    claims ask for to thousandths.
    """
    try:
        kept, asked = amount(str(live)), amount(str(wanted))
    except ValueError:
        return False
    capped = min(asked, Decimal(LARGEST))
    return kept == asked or kept in (capped.quantize(step, ROUND_CEILING) for step in _STEPS)


_STEPS = (Decimal("1e-9"), Decimal("1e-3"))
"""Parts of one (core, byte) that the API server rounds up to: billionths, and thousandths in pods."""
