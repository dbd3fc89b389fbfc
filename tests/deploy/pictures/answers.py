"""What Prometheus answers to the panels of a dashboard."""

import json
import math
import re
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from tests.deploy.expressions import Expression

#: Points of a line; more would not be seen.
_POINTS = 120


@dataclass(frozen=True)
class Series:
    """One line. Points are (unix seconds, value) in order of time, without gaps and NaN."""

    name: str
    points: tuple[tuple[float, float], ...]

    @property
    def last(self) -> float:
        return self.points[-1][1]

    @property
    def most(self) -> float:
        return max(value for _, value in self.points)


@dataclass(frozen=True)
class Period:
    """What the picture shows, in unix seconds."""

    start: float
    end: float

    @property
    def step(self) -> float:
        return (self.end - self.start) / _POINTS


@dataclass(frozen=True)
class Prometheus:
    """A server that is asked over HTTP. It scrapes every ``scrape_seconds``."""

    url: str
    scrape_seconds: float

    def instances(self) -> list[str]:
        """The scraped instances of headrace, of the last hours too."""
        found: list[str] = self._get("label/instance/values", {"match[]": "headrace_processes"})
        return sorted(found)

    def series(self, target: dict[str, str], period: Period, instance: str = "") -> list[Series]:
        """The lines of one query of a panel; ``instance``: of one pod only."""
        query = Expression("", "", target["expr"]).filled(**self._variables(period, instance))
        answer = self._get(
            "query_range",
            {
                "query": query,
                "start": f"{period.start:.3f}",
                "end": f"{period.end:.3f}",
                "step": f"{period.step:.3f}",
            },
        )
        lines = [
            Series(_named(target.get("legendFormat", ""), line["metric"]), _points(line["values"]))
            for line in answer["result"]
        ]
        return sorted((line for line in lines if line.points), key=lambda line: line.name)

    def _variables(self, period: Period, instance: str) -> dict[str, str]:
        """As Grafana chooses them."""
        window = max(period.step + self.scrape_seconds, 4 * self.scrape_seconds)
        return {
            "__rate_interval": f"{math.ceil(window)}s",
            "__range": f"{round(period.end - period.start)}s",
        } | ({"instance": re.escape(instance).replace("\\", "\\\\")} if instance else {})

    def _get(self, what: str, query: dict[str, str]) -> Any:
        url = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=30) as response:
            return json.load(response)["data"]


@dataclass
class Answers:
    """What one dashboard asks, of a period, and of one pod if there is an ``instance``."""

    prometheus: Prometheus
    period: Period
    instance: str = ""
    #: Expressions without any data, as they are written.
    silent: list[str] = field(default_factory=list)

    def to(self, target: dict[str, str]) -> list[Series]:
        """The lines of a query of a panel."""
        found = self.prometheus.series(target, self.period, self.instance)
        if not found:
            self.silent.append(target["expr"])
        return found


def _named(legend: str, labels: dict[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), legend)


def _points(values: list[tuple[float, str]]) -> tuple[tuple[float, float], ...]:
    numbers = ((moment, float(text)) for moment, text in values)
    return tuple((moment, value) for moment, value in numbers if math.isfinite(value))
