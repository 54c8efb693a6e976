"""Line charts as SVG text: scalable, without a script, in the colours of the page that they stand in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_WIDTH, _HEIGHT = 560, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 30  # margins of the plot
_BINS = 160  # points of a line; what lies between is shown as a band from the least to the most
_MINUS = "\N{MINUS SIGN}"
_COLUMNS = 60  # places where the values can be read off


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        name: for the legend.
        x: ascending.
        y: at each x; what is not finite is left out.
        colour: as CSS writes it.
    """

    name: str
    x: Floats
    y: Floats
    colour: str


@dataclass(frozen=True)
class Mark:
    """A level to compare with, drawn as a dashed line."""

    y: float
    text: str


class Bin(NamedTuple):
    """Neighbouring points as one: mean place, and mean, least and largest value."""

    x: float
    y: float
    low: float
    high: float


def binned(x: Floats, y: Floats, bins: int = _BINS) -> list[Bin]:
    """At most so many bins of equal width; points that are not finite are left out."""
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    if len(x) <= bins:
        return [Bin(*point, point[1], point[1]) for point in zip(x.tolist(), y.tolist(), strict=True)]
    place = ((x - x[0]) / ((x[-1] - x[0]) or 1.0) * bins).astype(int).clip(0, bins - 1)
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    sizes = np.diff(starts, append=len(x))
    means = [np.add.reduceat(values, starts) / sizes for values in (x, y)]
    ends = [extreme.reduceat(y, starts) for extreme in (np.minimum, np.maximum)]
    return [Bin(*values) for values in zip(*(column.tolist() for column in (*means, *ends)), strict=True)]


def chart(
    title: str,
    note: str,
    lines: Sequence[Line],
    *,
    unit: str = "",
    marks: Sequence[Mark] = (),
    bounds: tuple[float | None, float | None] = (None, None),
    x_name: str = "epoch",
) -> str:
    """A figure with heading, legend and plot; nothing at all if no line has a point.

    Args:
        title: its heading.
        note: one sentence on how to read it.
        lines: the curves.
        unit: of y, after a number.
        marks: levels to compare with; drawn where they fall within the plot.
        bounds: the least range of y, which the data may exceed.
        x_name: of the other axis.
    """
    curves = [(line, found) for line in lines if (found := binned(line.x, line.y))]
    if not curves:
        return ""
    everything = [b for _, found in curves for b in found]
    x0, x1 = min(b.x for b in everything), max(b.x for b in everything)
    low, high, step = _range(min(b.low for b in everything), max(b.high for b in everything), bounds)
    scale = _Scale(x0, x1 if x1 > x0 else x0 + 1, low, high)
    ends = ", ".join(f"{line.name} {number(found[-1].y)}{unit}" for line, found in curves)
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(f"{title}. At the end: {ends}.")}">',
        *_axes(scale, step, unit, x_name),
    ]
    shown = [mark for mark in marks if low <= mark.y <= high]
    parts += [f'<path class="mark" d="M{_LEFT} {scale.y(mark.y)}H{_WIDTH - _RIGHT}"/>' for mark in shown]
    for line, found in curves:
        parts += _curve(scale, line, found)
    parts += [_mark_text(scale, mark) for mark in shown]
    parts += [*_readings(scale, curves, unit, x_name), "</svg>"]
    legend = "".join(
        f'<li><i style="background:{line.colour}"></i>{escape(line.name)} '
        f"<b>{escape(number(found[-1].y) + unit)}</b></li>"
        for line, found in curves
    )
    return (
        f'<figure class="chart"><figcaption><h3>{escape(title)}</h3><p>{escape(note)}</p></figcaption>'
        f'<ul class="legend">{legend}</ul>{"".join(parts)}</figure>'
    )


def number(value: float) -> str:
    """A number as a reader likes it: three digits that count."""
    if not math.isfinite(value):
        return str(value)
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2e}"
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:,.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", _MINUS)


class _Scale(NamedTuple):
    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, value: float) -> float:
        return round(_LEFT + (value - self.x0) / (self.x1 - self.x0) * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        return round(_HEIGHT - _BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (_HEIGHT - _TOP - _BOTTOM), 1)


def _step(span: float, wanted: int) -> float:
    """A round distance between about so many ticks."""
    rough = span / wanted
    power = 10 ** math.floor(math.log10(rough))
    return float(power * min((m for m in (1, 2, 5, 10) if m * power >= rough * 0.999), default=10))


def _range(low: float, high: float, bounds: tuple[float | None, float | None]) -> tuple[float, float, float]:
    """Ends of the axis and the distance of its ticks."""
    low = low if bounds[0] is None else min(low, bounds[0])
    high = high if bounds[1] is None else max(high, bounds[1])
    if high - low < 1e-9 * max(abs(high), 1e-9):
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    step = _step(high - low, 4)
    return math.floor(low / step + 1e-6) * step, math.ceil(high / step - 1e-6) * step, step


def _tick(value: float, step: float) -> str:
    """A number on an axis, with the digits that tell it from its neighbours."""
    if abs(value) < step / 1e6:
        return "0"
    if not 1e-4 <= step < 1e6:
        return number(value)
    return f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}".replace("-", _MINUS)


def _axes(scale: _Scale, step: float, unit: str, x_name: str) -> list[str]:
    parts = []
    for k in range(round((scale.y1 - scale.y0) / step) + 1):
        value = scale.y0 + k * step
        y = scale.y(value)
        parts.append(f'<path class="grid" d="M{_LEFT} {y}H{_WIDTH - _RIGHT}"/>')
        text = _tick(value, step) + unit
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{escape(text)}</text>')
    step = max(_step(scale.x1 - scale.x0, 8), 1)
    bottom = _HEIGHT - _BOTTOM + 18
    for k in range(math.ceil(scale.x0 / step), math.floor(scale.x1 / step) + 1):
        x = scale.x(k * step)
        if x < _WIDTH - 90:  # the axis' name stands there
            parts.append(f'<text x="{x}" y="{bottom}" text-anchor="middle">{number(k * step)}</text>')
    name = f"{x_name} {number(round(scale.x1, 1))}"
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{bottom}" text-anchor="end">{escape(name)}</text>')
    return parts


def _mark_text(scale: _Scale, mark: Mark) -> str:
    y = scale.y(mark.y)
    beside = y - 5 if y > _TOP + 18 else y + 15
    return f'<text class="mark" x="{_WIDTH - _RIGHT}" y="{beside}" text-anchor="end">{escape(mark.text)}</text>'


def _curve(scale: _Scale, line: Line, found: list[Bin]) -> list[str]:
    points = [f"{scale.x(b.x)} {scale.y(b.y)}" for b in found]
    parts = []
    if any(b.high > b.low for b in found):
        up = [f"{scale.x(b.x)} {scale.y(b.high)}" for b in found]
        down = [f"{scale.x(b.x)} {scale.y(b.low)}" for b in reversed(found)]
        parts.append(f'<path class="band" style="fill:{line.colour}" d="M{"L".join(up + down)}Z"/>')
    parts.append(f'<path class="line" style="stroke:{line.colour}" d="M{"L".join(points)}"/>')
    if len(found) <= 25:
        parts += [f'<circle style="fill:{line.colour}" r="3" cx="{scale.x(b.x)}" cy="{scale.y(b.y)}"/>' for b in found]
    return parts


def _readings(scale: _Scale, curves: Sequence[tuple[Line, list[Bin]]], unit: str, x_name: str) -> list[str]:
    """Invisible columns that tell the values under the pointer."""
    width = (scale.x1 - scale.x0) / _COLUMNS
    columns: dict[int, list[str]] = {}
    for line, found in curves:
        said: set[int] = set()
        for b in found:
            k = min(int((b.x - scale.x0) / width), _COLUMNS - 1)
            if k not in said:
                said.add(k)
                columns.setdefault(k, [f"{x_name} {number(round(b.x, 2))}"]).append(f"{line.name} {number(b.y)}{unit}")
    wide = round((_WIDTH - _LEFT - _RIGHT) / _COLUMNS, 2)
    return [
        f'<rect class="hit" x="{round(_LEFT + k * wide, 1)}" y="{_TOP}" width="{wide}" '
        f'height="{_HEIGHT - _TOP - _BOTTOM}"><title>{escape(chr(10).join(texts))}</title></rect>'
        for k, texts in sorted(columns.items())
    ]
