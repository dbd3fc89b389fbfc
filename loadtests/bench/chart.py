"""The comparison as a picture: runs per second of each contender, workload by workload.

The background is the page's own, so every colour has to be read on white and on black alike.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape

from loadtests.bench.workloads import WORKLOADS

#: About as far from white as from GitHub's black.
TEXT = "#77787d"
OURS = "#0b85c9"
OTHERS = "#8a7f6d"
NOT_DURABLE = "#9a9aa2"

_COLOURS = {"headrace": OURS, "memory": NOT_DURABLE, "none": NOT_DURABLE}
_LABELS = {
    "tutorial": "tutorial, one connection",
    "upstream_pool": "upstream on a pool",
    "headrace": "headrace",
    "memory": "in memory, not durable",
    "none": "no saver",
}
_TITLES = {
    "trivial": "one node",
    "ten_step": "ten steps",
    "long_thread": "200 messages before",
    "tutorial": "the tutorial's graph",
}

_WIDTH, _LEFT, _RIGHT = 760, 190, 150
_BAR, _GAP, _HEAD, _BELOW = 16, 6, 30, 18


def chart(result: Mapping[str, Any]) -> str:
    """An SVG document."""
    lines: list[str] = []
    y = 28
    for name in WORKLOADS:
        contenders = result.get(name, {}).get("contenders")
        if contenders:
            lines += _panel(_TITLES[name], contenders, y)
            y += _HEAD + len(contenders) * (_BAR + _GAP) + _BELOW
    concurrency = result["options"]["concurrency"]
    said = f"Runs per second, {concurrency} at once, one process; line: least and greatest round"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" role="img"'
            f' aria-label="{escape(said)}" font-family="system-ui, sans-serif" font-size="13"'
            f' fill="{TEXT}">',
            f'<text x="0" y="16">{escape(said)}</text>',
            *lines,
            "</svg>",
            "",
        ]
    )


def _panel(title: str, contenders: Mapping[str, Any], top: int) -> Iterator[str]:
    """A workload: bars to a scale of its own."""
    yield f'<text x="0" y="{top + 18}" font-size="15" font-weight="600">{escape(title)}</text>'
    greatest = max(figures["runs_per_second"]["max"] for figures in contenders.values())
    scale = (_WIDTH - _LEFT - _RIGHT) / greatest
    for row, (name, figures) in enumerate(contenders.items()):
        yield from _bar(name, figures, top + _HEAD + row * (_BAR + _GAP), scale)


def _bar(name: str, figures: Mapping[str, Any], y: int, scale: float) -> Iterator[str]:
    speed = figures["runs_per_second"]
    middle = y + _BAR / 2
    least, greatest = (_LEFT + speed[key] * scale for key in ("min", "max"))
    baseline = f'y="{middle + 4.5:g}"'
    weight = ' font-weight="600"' if name == "headrace" else ""
    yield (
        f'<text x="{_LEFT - 8}" {baseline} text-anchor="end"{weight}>'
        f"{escape(_LABELS.get(name, name))}</text>"
    )
    yield (
        f'<rect x="{_LEFT}" y="{y}" width="{speed["median"] * scale:.1f}" height="{_BAR}" rx="2"'
        f' fill="{_COLOURS.get(name, OTHERS)}"/>'
    )
    yield (
        f'<line x1="{least:.1f}" x2="{greatest:.1f}" y1="{middle:g}" y2="{middle:g}"'
        f' stroke="{TEXT}" stroke-width="2"/>'
    )
    cost = figures["client_cpu_ms_per_run"]["median"]
    yield (
        f'<text x="{greatest + 8:.1f}" {baseline}{weight}>{speed["median"]:,.0f}/s,'
        f" {cost:.2g} ms CPU</text>"
    )
