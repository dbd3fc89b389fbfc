"""One dashboard as one SVG."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import quoteattr

from tests.deploy.pictures.answers import Answers, Period, Series
from tests.deploy.pictures.drawing import STYLE, Box, figures, graph, rectangle, text

_COLUMN, _LINE, _GAP, _HEAD = 50, 27, 4, 66
_WIDTH = 24 * _COLUMN
DRAWN = "Drawn from data queried from a Prometheus, not by Grafana."


def picture(dashboard: dict[str, Any], answers: Answers) -> str:
    """The SVG of what the answers say."""
    (annotation,) = dashboard["annotations"]["list"]
    starts = sorted({moment for line in answers.to(annotation) for moment, _ in line.points})
    panels = [
        (panel, [line for target in panel.get("targets", []) for line in answers.to(target)])
        for panel in dashboard["panels"]
    ]
    return drawn(dashboard, panels, answers.period, starts)


def drawn(
    dashboard: dict[str, Any],
    panels: Iterable[tuple[dict[str, Any], list[Series]]],
    period: Period,
    starts: list[float],
) -> str:
    """The SVG of panels and their lines."""
    height = _HEAD + _LINE * max(
        panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"]
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"'
        f" aria-label={quoteattr(dashboard['title'])}>",
        f"<style>{STYLE}</style>",
        f'<path class="b" d="M0 0h{_WIDTH}v{height}H0z"/>',
        text(10, 26, dashboard["title"], "h"),
        text(10, 45, dashboard["description"]),
        text(10, 60, f"{DRAWN} {_when(period)}", "n"),
    ]
    for panel, lines in panels:
        parts += _panel(panel, lines, period, _first_of_each_burst(starts, period))
    return "\n".join([*parts, "</svg>", ""])


def _panel(
    panel: dict[str, Any], lines: list[Series], period: Period, starts: list[float]
) -> Iterable[str]:
    place = panel["gridPos"]
    box = Box(
        place["x"] * _COLUMN + _GAP,
        place["y"] * _LINE + _HEAD + _GAP,
        place["w"] * _COLUMN - 2 * _GAP,
        place["h"] * _LINE - 2 * _GAP,
    )
    if panel["type"] == "row":
        yield rectangle(Box(box.x, box.y, 3, box.height), 'fill="#3274d9"')
        yield text(box.x + 10, box.y + 14, panel["title"], "r")
    elif panel["type"] == "stat":
        yield from figures(panel, box, lines)
    else:
        yield from graph(panel, box, lines, period, starts)


def _first_of_each_burst(starts: list[float], period: Period) -> list[float]:
    """A start is in the window of a rate for some steps; one mark is enough."""
    gap = 1.5 * period.step
    return [
        moment
        for before, moment in zip([float("-inf"), *starts], starts, strict=False)
        if moment - before > gap
    ]


def _when(period: Period) -> str:
    start, end = (datetime.fromtimestamp(moment, UTC) for moment in (period.start, period.end))
    return f"{start:%Y-%m-%d %H:%M} to {end:%H:%M} UTC."
