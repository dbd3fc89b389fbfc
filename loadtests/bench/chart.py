"""The comparison as a picture: runs per second of each contender, workload by workload."""

from collections.abc import Mapping
from typing import Any

from loadtests.bench.workloads import WORKLOADS
from loadtests.measuring.charts import NOT_DURABLE, OTHERS, OURS, Bar, Bars, bars

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


def chart(result: Mapping[str, Any]) -> str:
    """An SVG document."""
    concurrency = result["options"]["concurrency"]
    return bars(
        f"Runs per second, {concurrency} at once, one process; line: least and greatest round",
        [
            Bars(_TITLES[name], [_bar(*one) for one in contenders.items()])
            for name in WORKLOADS
            if (contenders := result.get(name, {}).get("contenders"))
        ],
    )


def _bar(name: str, figures: Mapping[str, Any]) -> Bar:
    speed, cost = figures["runs_per_second"], figures["client_cpu_ms_per_run"]["median"]
    return Bar(
        label=_LABELS.get(name, name),
        value=speed["median"],
        least=speed["min"],
        greatest=speed["max"],
        beside=f"{speed['median']:,.0f}/s, {cost:.2g} ms CPU",
        colour=_COLOURS.get(name, OTHERS),
        strong=name == "headrace",
    )
