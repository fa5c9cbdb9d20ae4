"""How figures are written in reports: three digits, signs, intervals, p-values.

Knows: numbers. Does not know: what they measure.
"""

from __future__ import annotations

from collections.abc import Sequence

NONE = "–"


def number(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def span(interval: Sequence[float]) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}"


def p_value(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
