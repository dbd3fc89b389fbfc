"""Charts as SVG documents: bars beside each other, and lines over a logarithmic scale.

The background is the page's own, so every colour has to be read on white and on black alike.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

#: About as far from white as from GitHub's black.
TEXT = "#77787d"
OURS = "#0b85c9"
OTHERS = "#8a7f6d"
NOT_DURABLE = "#9a9aa2"
#: Of lines, in this order.
LINES = (OURS, "#c2571a", "#2e8b57", "#a05bb5", OTHERS)

_WIDTH, _LEFT, _RIGHT = 760, 190, 170
_BAR, _GAP, _HEAD, _BELOW = 16, 6, 30, 18
_MARKS = 5
_PLOT_HEIGHT, _PLOT_LEFT, _PLOT_RIGHT = 180, 70, 150


@dataclass(frozen=True)
class Bar:
    """``least`` and ``greatest`` are those of the rounds; ``beside`` is written after the bar."""

    label: str
    value: float
    least: float
    greatest: float
    beside: str
    colour: str = OTHERS
    strong: bool = False


@dataclass(frozen=True)
class Bars:
    """One panel, drawn to a scale of its own."""

    title: str
    bars: Sequence[Bar]


@dataclass(frozen=True)
class Line:
    label: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Lines:
    """One panel; ``x_label`` and ``y_label`` name the scales.

    The x scale is logarithmic, and marks each point; a linear one marks six places.
    """

    title: str
    lines: Sequence[Line]
    x_label: str
    y_label: str
    linear: bool = False

    def place(self, x: float) -> float:
        """Where ``x`` is on the scale, in units of the scale."""
        return x if self.linear else math.log10(x)

    def marks(self) -> list[float]:
        """The values that are written below the scale."""
        xs = {x for line in self.lines for x, _ in line.points}
        if not self.linear:
            return sorted(xs)
        first, last = min(xs), max(xs)
        return [first + (last - first) * part / _MARKS for part in range(_MARKS + 1)]


def bars(said: str, panels: Sequence[Bars]) -> str:
    """An SVG document; ``said`` is its headline and what a screen reader tells."""
    drawn: list[str] = []
    y = 28
    for panel in panels:
        drawn += _panel(panel, y)
        y += _HEAD + len(panel.bars) * (_BAR + _GAP) + _BELOW
    return _document(said, y, drawn)


def lines(said: str, panels: Sequence[Lines]) -> str:
    """An SVG document of curves, one panel below the other."""
    drawn: list[str] = []
    y = 28
    for panel in panels:
        drawn += _plot(panel, y)
        y += _HEAD + _PLOT_HEIGHT + 3 * _BELOW
    return _document(said, y, drawn)


def _document(said: str, height: float, drawn: Sequence[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"'
            f' aria-label="{escape(said)}" font-family="system-ui, sans-serif" font-size="13"'
            f' fill="{TEXT}">',
            f'<text x="0" y="16">{escape(said)}</text>',
            *drawn,
            "</svg>",
            "",
        ]
    )


def _title(title: str, top: float) -> str:
    return f'<text x="0" y="{top + 18}" font-size="15" font-weight="600">{escape(title)}</text>'


def _panel(panel: Bars, top: int) -> Iterator[str]:
    yield _title(panel.title, top)
    scale = (_WIDTH - _LEFT - _RIGHT) / max(bar.greatest for bar in panel.bars)
    for row, bar in enumerate(panel.bars):
        yield from _bar(bar, top + _HEAD + row * (_BAR + _GAP), scale)


def _bar(bar: Bar, y: int, scale: float) -> Iterator[str]:
    middle = y + _BAR / 2
    least, greatest = (_LEFT + value * scale for value in (bar.least, bar.greatest))
    baseline = f'y="{middle + 4.5:g}"'
    weight = ' font-weight="600"' if bar.strong else ""
    yield (f'<text x="{_LEFT - 8}" {baseline} text-anchor="end"{weight}>{escape(bar.label)}</text>')
    yield (
        f'<rect x="{_LEFT}" y="{y}" width="{bar.value * scale:.1f}" height="{_BAR}" rx="2"'
        f' fill="{bar.colour}"/>'
    )
    yield (
        f'<line x1="{least:.1f}" x2="{greatest:.1f}" y1="{middle:g}" y2="{middle:g}"'
        f' stroke="{TEXT}" stroke-width="2"/>'
    )
    yield f'<text x="{greatest + 8:.1f}" {baseline}{weight}>{escape(bar.beside)}</text>'


def _plot(panel: Lines, top: int) -> Iterator[str]:
    yield _title(panel.title, top)
    top += _HEAD
    points = [point for line in panel.lines for point in line.points]
    first, last = (panel.place(one(x for x, _ in points)) for one in (min, max))
    highest = max(y for _, y in points) or 1.0
    width = _WIDTH - _PLOT_LEFT - _PLOT_RIGHT

    def place(x: float, y: float) -> tuple[float, float]:
        across = (panel.place(x) - first) / ((last - first) or 1.0)
        return _PLOT_LEFT + across * width, top + _PLOT_HEIGHT * (1 - y / highest)

    for share in (0.0, 0.5, 1.0):
        y = top + _PLOT_HEIGHT * (1 - share)
        yield (
            f'<line x1="{_PLOT_LEFT}" x2="{_PLOT_LEFT + width}" y1="{y:g}" y2="{y:g}"'
            f' stroke="{TEXT}" stroke-width="0.5"/>'
        )
        yield (
            f'<text x="{_PLOT_LEFT - 8}" y="{y + 4.5:g}" text-anchor="end">'
            f"{highest * share:,.3g}</text>"
        )
    yield f'<text x="{_PLOT_LEFT}" y="{top - 6}" font-size="11">{escape(panel.y_label)}</text>'
    for x in panel.marks():
        yield (
            f'<text x="{place(x, 0)[0]:.1f}" y="{top + _PLOT_HEIGHT + 16}" text-anchor="middle"'
            f' font-size="11">{_mark(x)}</text>'
        )
    yield (
        f'<text x="{_PLOT_LEFT + width + 8}" y="{top + _PLOT_HEIGHT + 16}" font-size="11">'
        f"{escape(panel.x_label)}</text>"
    )
    for number, line in enumerate(panel.lines):
        colour = LINES[number % len(LINES)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line.points))
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        yield (
            f'<text x="{_PLOT_LEFT + width + 8}" y="{top + 12 + number * 16}" fill="{colour}">'
            f"{escape(line.label)}</text>"
        )


def _mark(x: float) -> str:
    return f"{x:,.0f}" if abs(x) >= 10 else f"{x:,.3g}"
