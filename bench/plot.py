"""A line chart with a logarithmic scale, as SVG, without a library. It knows nothing of what it shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 860, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 170, 50, 40
_LABEL = 16  # between two labels
_FOREMOST = "#c2185b"
_COLOURS = ("#1f6fb4", "#2e8b57", "#d98200", "#7a5ab5", "#00838f", "#6d4c41", "#5f6b76", "#9e9d24")  # in turn


def chart(title: str, steps: Sequence[str], series: Mapping[str, Sequence[float]], foremost: str = "") -> str:
    """Draw one line for each of ``series`` over ``steps``, all values above zero; ``foremost`` stands out."""
    values = [value for line in series.values() for value in line]
    ticks = _ticks(min(values), max(values))
    low, high = math.log10(ticks[0]), math.log10(ticks[-1])

    def x(step: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / max(1, len(steps) - 1)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (math.log10(value) - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="sans-serif" font-size="13" fill="#333">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        _text(_LEFT, 26, f"{title} (logarithmic)", size=15),
    ]
    for tick in ticks:
        parts.append(_line([(_LEFT, y(tick)), (x(len(steps) - 1), y(tick))], "#ddd", 1))
        parts.append(_text(_LEFT - 8, y(tick) + 4, f"{tick:g}", anchor="end"))
    for number, step in enumerate(steps):
        parts.append(_text(x(number), _HEIGHT - _BOTTOM + 22, step, anchor="middle"))
    order = sorted(series, key=lambda name: (name == foremost, name))  # the foremost is drawn last: on top
    colours = dict(zip((name for name in order if name != foremost), _COLOURS * len(series))) | {foremost: _FOREMOST}
    for name in order:
        points = [(x(number), y(value)) for number, value in enumerate(series[name])]
        parts.append(_line(points, colours[name], 3.5 if name == foremost else 1.8))
        parts += [f'<circle cx="{at:.1f}" cy="{height:.1f}" r="3.5" fill="{colours[name]}"/>' for at, height in points]
    ends = _spread({name: y(line[-1]) for name, line in series.items()})
    for name, height in ends.items():
        bold = ' font-weight="bold"' if name == foremost else ""
        last = series[name][-1]
        label = f"{name}  {last:.0f}" if last >= 100 else f"{name}  {last:.3g}"
        parts.append(_text(x(len(steps) - 1) + 12, height + 4, label, colour=colours[name], more=bold))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _ticks(least: float, most: float) -> list[float]:
    """Return 1, 2, 5, 10, ... from just below ``least`` to just above ``most``."""
    start = math.floor(math.log10(least))
    every = [factor * 10.0**power for power in range(start, math.ceil(math.log10(most)) + 1) for factor in (1, 2, 5)]
    first = max(number for number, tick in enumerate(every) if tick <= least)
    last = min(number for number, tick in enumerate(every) if tick >= most and number > first)
    return every[first : last + 1]


def _spread(heights: Mapping[str, float]) -> dict[str, float]:
    """Move labels apart, those in the way of each other about their common middle."""
    names = sorted(heights, key=lambda name: heights[name])
    groups: list[list[str]] = []

    def begin(group: list[str]) -> float:
        middle = sum(heights[name] for name in group) / len(group)
        return middle - _LABEL * (len(group) - 1) / 2

    for name in names:
        groups.append([name])
        while len(groups) > 1 and begin(groups[-2]) + _LABEL * len(groups[-2]) > begin(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    return {name: begin(group) + _LABEL * number for group in groups for number, name in enumerate(group)}


def _line(points: Sequence[tuple[float, float]], colour: str, width: float) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", colour: str = "#333", size: int = 13, more: str = ""
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}"{more}>'
        f"{escape(text)}</text>"
    )
