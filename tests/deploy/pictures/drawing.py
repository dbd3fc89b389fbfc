"""Panels as SVG: axes with units, lines, legends. Plain text; colours follow the reader's theme."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from xml.sax.saxutils import escape

from tests.deploy.pictures.answers import Period, Series
from tests.deploy.pictures.units import above, shown

#: Lines of a panel; the legend says how many more there are.
MOST_LINES = 6
_COLOURS = ("#3274d9", "#e0752d", "#299c46", "#a352cc", "#d44a3a", "#a08a10")
_LEVELS = {"green": "#2f8a43", "orange": "#b8651b", "red": "#c4372e"}
_LEGEND_LINE, _LETTER = 13, 6.1  # pixels; of a letter of 11 px about as much

STYLE = """
text{font-family:system-ui,sans-serif;font-size:11px;fill:#52545c}
.t{font-size:12px;font-weight:600;fill:#1f2126}.h{font-size:20px;font-weight:600;fill:#1f2126}
.r{font-size:13px;font-weight:600;fill:#1f2126}.v{font-size:19px;font-weight:600;fill:#fff}
.w{fill:#fff}.b{fill:#f6f6f8}.c{fill:#fff;stroke:#d9dadf}.g{stroke:#e4e5ea}.n{fill:#8a8c94}
.l{fill:none;stroke-width:1.3}.a{stroke:#3274d9;stroke-dasharray:2 3;opacity:.6}
.x{stroke:#c4372e;stroke-dasharray:6 4}
@media (prefers-color-scheme:dark){
text{fill:#a9abb3}.t,.h,.r{fill:#eceded}.v,.w{fill:#fff}.b{fill:#111217}.c{fill:#181b1f;stroke:#2c3036}
.g{stroke:#2a2d33}.n{fill:#7d8089}}
""".strip()


@dataclass(frozen=True)
class Box:
    """Where something lies, in pixels."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Scale:
    """From seconds and values to pixels. Values begin at 0."""

    box: Box
    period: Period
    top: float

    def x(self, moment: float) -> float:
        share = (moment - self.period.start) / (self.period.end - self.period.start)
        return self.box.x + share * self.box.width

    def y(self, value: float) -> float:
        return self.box.y + self.box.height * (1 - value / self.top)


def text(x: float, y: float, words: str, style: str = "", anchor: str = "") -> str:
    named = f' class="{style}"' if style else ""
    anchored = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:.0f}" y="{y:.0f}"{named}{anchored}>{escape(words)}</text>'


def rectangle(box: Box, attributes: str) -> str:
    return (
        f'<rect x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}"'
        f' height="{box.height:.0f}" rx="2" {attributes}/>'
    )


def figures(panel: dict[str, Any], box: Box, lines: Sequence[Series]) -> Iterable[str]:
    """The present values, on the colour of their level."""
    yield rectangle(box, 'class="c"')
    yield text(box.x + 8, box.y + 17, panel["title"], "t")
    defaults = panel["fieldConfig"]["defaults"]
    shown_lines = lines[:MOST_LINES]
    if not shown_lines:
        yield _nothing(panel, box)
    width = (box.width - 16) / max(len(shown_lines), 1)
    coloured = panel["options"]["colorMode"] == "background"
    for number, line in enumerate(shown_lines):
        inner = Box(box.x + 8 + number * width, box.y + 26, width - 4, box.height - 34)
        words, colour = _level(line.last, defaults | _own(panel, line.name))
        if coloured:
            yield rectangle(inner, f'fill="{colour}"')
        style = ("v", "w") if coloured else ("h", "")
        middle = inner.x + inner.width / 2
        if panel["options"].get("textMode") != "name":
            yield text(middle, inner.y + inner.height / 2, words, style[0], "middle")
        for row, name in enumerate(_wrapped(line.name, inner.width)):
            yield text(middle, inner.y + inner.height / 2 + 19 + 13 * row, name, style[1], "middle")


def graph(
    panel: dict[str, Any],
    box: Box,
    lines: Sequence[Series],
    period: Period,
    starts: Iterable[float],
) -> Iterable[str]:
    """Lines, areas or bars over time, with what they are called below."""
    yield rectangle(box, 'class="c"')
    yield text(box.x + 8, box.y + 17, panel["title"], "t")
    if not lines:
        yield _nothing(panel, box)
        return
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults.get("custom", {})
    largest = sorted(lines, key=lambda line: line.most, reverse=True)[:MOST_LINES]
    drawn = [line for line in lines if line in largest]
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    heights = _stacked(drawn) if stacked else [dict(line.points) for line in drawn]
    feet: list[dict[float, float]] = [{}, *heights] if stacked else []
    rows = len(drawn) + (len(lines) > len(drawn))
    plot = Box(box.x + 58, box.y + 28, box.width - 70, box.height - 52 - rows * _LEGEND_LINE)
    top = above(max(max(points.values()) for points in heights), defaults["unit"])
    scale = Scale(plot, period, top)
    yield from _axes(scale, defaults["unit"])
    yield from _starts(scale, starts)
    yield from _limit(scale, custom, defaults)
    for number in reversed(range(len(drawn))):
        colour = _COLOURS[number % len(_COLOURS)]
        if custom.get("drawStyle") == "bars":
            yield _bars(scale, heights[number], colour)
        else:
            yield from _line(scale, heights[number], colour, feet[number] if feet else None)
    yield from _legend(box, drawn, len(lines) - len(drawn), defaults["unit"])


def _level(value: float, defaults: dict[str, Any]) -> tuple[str, str]:
    """What is said of the value, and on which colour."""
    for mapping in defaults.get("mappings", []):
        word = mapping["options"].get(f"{value:.0f}")
        if word:
            return word["text"], _LEVELS[word["color"]]
    steps = defaults["thresholds"]["steps"]
    reached = [step for step in steps if step["value"] is None or value >= step["value"]]
    return shown(value, defaults["unit"]), _LEVELS[reached[-1]["color"]]


def _own(panel: dict[str, Any], name: str) -> dict[str, Any]:
    """What the panel says of this line alone."""
    return {
        said["id"]: said["value"]
        for override in panel["fieldConfig"].get("overrides", [])
        if override["matcher"] == {"id": "byName", "options": name}
        for said in override["properties"]
    }


def _stacked(lines: Sequence[Series]) -> list[dict[float, float]]:
    """Each line on top of those before it; where it has no point, its height is theirs."""
    moments = sorted({moment for line in lines for moment, _ in line.points})
    below = dict.fromkeys(moments, 0.0)
    heights = []
    for line in lines:
        below = below | {moment: below[moment] + value for moment, value in line.points}
        heights.append(below)
    return heights


def _axes(scale: Scale, unit: str) -> Iterable[str]:
    box = scale.box
    for part in (0.0, 0.5, 1.0):
        y = box.y + box.height * (1 - part)
        yield f'<path class="g" d="M{box.x:.0f} {y:.0f}h{box.width:.0f}"/>'
        yield text(box.x - 4, y + 4, shown(scale.top * part, unit), "", "end")
    for part in (0.0, 0.5, 1.0):
        moment = scale.period.start + part * (scale.period.end - scale.period.start)
        words = f"{datetime.fromtimestamp(moment, UTC):%H:%M}"
        anchor = ("start", "middle", "end")[round(2 * part)]
        yield text(scale.x(moment), box.y + box.height + 15, words, "", anchor)


def _starts(scale: Scale, starts: Iterable[float]) -> Iterable[str]:
    box = scale.box
    for moment in starts:
        yield f'<path class="a" d="M{scale.x(moment):.0f} {box.y:.0f}v{box.height:.0f}"/>'


def _limit(scale: Scale, custom: dict[str, Any], defaults: dict[str, Any]) -> Iterable[str]:
    if custom.get("thresholdsStyle", {}).get("mode") == "dashed":
        limit = defaults["thresholds"]["steps"][-1]["value"]
        if limit <= scale.top:
            box = scale.box
            yield f'<path class="x" d="M{box.x:.0f} {scale.y(limit):.0f}h{box.width:.0f}"/>'


def _line(
    scale: Scale, points: dict[float, float], colour: str, foot: dict[float, float] | None
) -> Iterable[str]:
    """A line with the area down to ``foot``; a gap in the points is a gap in the line."""
    for part in _unbroken(points, 2.5 * scale.period.step):
        corners = [(round(scale.x(moment)), round(scale.y(value))) for moment, value in part]
        if foot is not None:
            below = [
                (round(scale.x(moment)), round(scale.y(foot.get(moment, 0.0))))
                for moment, _ in reversed(part)
            ]
            yield f'<path d="{_path(corners + below)}z" fill="{colour}" fill-opacity=".3"/>'
        yield f'<path class="l" stroke="{colour}" d="{_path(corners)}"/>'


def _path(corners: Sequence[tuple[int, int]]) -> str:
    """Relative steps: they are short. Where the direction stays, one step is enough."""
    (x, y), *_ = corners
    steps = [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(corners)]
    joined: list[tuple[int, int]] = []
    for step in steps:
        if joined and not step[1] and not joined[-1][1] and step[0] * joined[-1][0] > 0:
            joined[-1] = (joined[-1][0] + step[0], 0)
        else:
            joined.append(step)
    drawn = "".join(f"h{across}" if not up else f"l{across} {up}" for across, up in joined)
    return f"M{x} {y}{drawn or 'h1'}"


def _unbroken(points: dict[float, float], gap: float) -> Iterable[list[tuple[float, float]]]:
    part: list[tuple[float, float]] = []
    for moment, value in points.items():
        if part and moment - part[-1][0] > gap:
            yield part
            part = []
        part.append((moment, value))
    if part:
        yield part


def _bars(scale: Scale, points: dict[float, float], colour: str) -> str:
    width = max(1, scale.box.width / 130)
    foot = round(scale.y(0))
    bars = "".join(
        f"M{scale.x(moment):.0f} {foot}V{scale.y(value):.0f}"
        for moment, value in points.items()
        if value > 0
    )
    return f'<path stroke="{colour}" stroke-width="{width:.1f}" d="{bars or "M0 0"}"/>'


def _legend(box: Box, drawn: Sequence[Series], more: int, unit: str) -> Iterable[str]:
    rows = len(drawn) + bool(more)
    first = box.y + box.height - rows * _LEGEND_LINE + 5
    for number, line in enumerate(drawn):
        y = first + number * _LEGEND_LINE
        colour = _COLOURS[number % len(_COLOURS)]
        values = f"{shown(line.last, unit)} (max {shown(line.most, unit)})"
        room = box.width - 40 - _LETTER * len(values)
        yield f'<path stroke="{colour}" stroke-width="3" d="M{box.x + 8:.0f} {y - 4:.0f}h10"/>'
        yield text(box.x + 23, y, _cut(line.name, room))
        yield text(box.x + box.width - 8, y, values, "", "end")
    if more:
        yield text(box.x + 23, first + len(drawn) * _LEGEND_LINE, f"and {more} more", "n")


def _nothing(panel: dict[str, Any], box: Box) -> str:
    words = panel["fieldConfig"]["defaults"].get("noValue", "no data")
    return text(box.x + box.width / 2, box.y + box.height / 2 + 8, words, "n", "middle")


def _wrapped(words: str, width: float) -> list[str]:
    """In two lines at most."""
    lines = textwrap.wrap(words, max(int(width / _LETTER), 4))
    return [*lines[:1], *(_cut(" ".join(lines[1:]), width) for _ in lines[1:2])]


def _cut(words: str, width: float) -> str:
    most = int(width / _LETTER)
    return words if len(words) <= most else f"{words[: max(most - 1, 1)]}…"
