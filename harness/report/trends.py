"""Figures over versions as small line charts (sparklines)."""

from __future__ import annotations

from dataclasses import dataclass

from harness.runs.history import Series

_WIDTH, _HEIGHT, _MARGIN = 240.0, 48.0, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    x: float
    y: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A trend as drawn; ``label`` is its text alternative, ``change`` is from the previous version to the newest."""

    name: str
    newest: str
    change: str
    lowest: str
    highest: str
    label: str
    dots: tuple[Dot, ...]

    @property
    def line(self) -> str:
        return " ".join(f"{dot.x:.1f},{dot.y:.1f}" for dot in self.dots)


def draw(trend: Series) -> Curve:
    """Draw ``trend``, which has at least one point, in a box of 240 by 48."""
    values = [value for _, value in trend.points]
    lowest, highest = min(values), max(values)
    newest = _format(values[-1], trend.unit)
    return Curve(
        name=trend.name,
        newest=newest,
        change=f"{values[-1] / values[-2] - 1:+.1%}" if values[1:] and values[-2] else "",
        lowest=_format(lowest, trend.unit),
        highest=_format(highest, trend.unit),
        label=f"{trend.name} over {len(values)} versions: {newest} now, "
        f"between {_format(lowest, trend.unit)} and {_format(highest, trend.unit)}",
        dots=tuple(
            Dot(
                x=_MARGIN + (_WIDTH - 2 * _MARGIN) * (number / (len(values) - 1) if values[1:] else 1),
                y=_MARGIN + (_HEIGHT - 2 * _MARGIN) * ((highest - value) / (highest - lowest or 1)),
                label=f"{version}: {_format(value, trend.unit)}",
            )
            for number, (version, value) in enumerate(trend.points)
        ),
    )


def _format(value: float, unit: str) -> str:
    return f"{value:,.1f}".removesuffix(".0") + (f" {unit}" if unit else "")
