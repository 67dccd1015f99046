"""Small pictures for the report, written by hand: bars with their spread, and lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from bench.figures import number

_WIDTH, _LEFT, _RIGHT = 720, 210, 110
_COLOURS = ("#00796b", "#c2570c", "#5b5fc7", "#8a6d00", "#a3325f", "#48606b")
_STYLE = (
    "<style>text{font:13px sans-serif;fill:#333}.t{font-weight:bold}.g{stroke:#999;stroke-width:1}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>"
)

Bar = tuple[str, float, float, float]
"""What it is of; the median, the least, the greatest."""


def _picture(height: int, title: str, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">'
    return "\n".join([head, f"<title>{escape(title)}</title>", _STYLE, _text(8, 20, title, "t"), *parts, "</svg>", ""])


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x: float, y: float, to_x: float, to_y: float, colour: str = "#999", dash: str = "none") -> str:
    return (
        f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{colour}" stroke-width="1.5" '
        f'stroke-dasharray="{dash}"/>'
    )


def bars(title: str, rows: Sequence[Bar], aim: float | None = None) -> str:
    """Horizontal bars from 0; a thin line from the least to the greatest, a broken one for the aim."""
    most = max([high for _, _, _, high in rows] + [aim or 0.0]) or 1.0
    scale = (_WIDTH - _LEFT - _RIGHT) / most
    parts = []
    for at, (label, middle, low, high) in enumerate(rows):
        y = 34 + at * 26
        parts.append(_text(_LEFT - 8, y + 14, label, anchor="end"))
        colour = _COLOURS[0] if label.startswith("Stillhere") else "#8a9ba3"
        parts.append(f'<rect x="{_LEFT}" y="{y}" width="{middle * scale:.1f}" height="18" fill="{colour}"/>')
        parts.append(_line(_LEFT + low * scale, y + 9, _LEFT + high * scale, y + 9, "#222"))
        parts.append(_text(_LEFT + high * scale + 6, y + 14, number(middle)))
    bottom = 34 + len(rows) * 26
    if aim is not None:
        parts.append(_line(_LEFT + aim * scale, 30, _LEFT + aim * scale, bottom, "#c2570c", "5 3"))
        parts.append(_text(_LEFT + aim * scale, bottom + 14, f"aim {aim:g}", anchor="middle"))
    return _picture(bottom + 22, title, parts)


def lines(title: str, series: Mapping[str, Sequence[tuple[float, float]]], *, logarithmic: bool) -> str:
    """Lines over n or time; the least and greatest are written at the axes.

    Args:
        title: with the units.
        series: by name, the points.
        logarithmic: both axes; points that are not above 0 are then left out.
    """
    usable = {
        name: [(x, y) for x, y in points if not logarithmic or (x > 0 and y > 0)] for name, points in series.items()
    }
    every = [point for points in usable.values() for point in points]
    if not every:
        return _picture(40, title, [])
    warp = math.log if logarithmic else float
    xs, ys = [x for x, _ in every], [y for _, y in every]
    low_y = min(ys) if logarithmic else 0.0

    def place(x: float, y: float) -> tuple[float, float]:
        wide, tall = warp(max(xs)) - warp(min(xs)) or 1.0, warp(max(ys)) - warp(low_y) if max(ys) > low_y else 1.0
        return 80 + (warp(x) - warp(min(xs))) / wide * 600, 250 - (warp(y) - warp(low_y)) / tall * 200

    parts = [_line(80, 250, 680, 250), _line(80, 250, 80, 50)]
    parts += [_text(80, 268, number(min(xs)), anchor="middle"), _text(680, 268, number(max(xs)), anchor="middle")]
    parts += [_text(74, 254, number(low_y), anchor="end"), _text(74, 54, number(max(ys)), anchor="end")]
    for at, (name, points) in enumerate(usable.items()):
        colour = _COLOURS[at % len(_COLOURS)]
        path = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<rect x="100" y="{280 + at * 20}" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(118, 291 + at * 20, name))
    return _picture(290 + len(usable) * 20, title, parts)
