"""Every PromQL expression of the dashboards and the rules, by name, and what it asks for."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import promql_parser
import yaml

from tests.support.sources import ROOT

DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
RULES = ROOT / "deploy" / "prometheus" / "rules.yaml"

#: Series of a histogram end so; the page of metrics names the histogram.
_PARTS = ("_bucket", "_sum", "_count")
#: What Grafana fills in, where nobody has chosen anything.
_FILLED: Final = {"__rate_interval": "5m", "__range": "1h", "__interval": "15s"}


@dataclass(frozen=True)
class Expression:
    """One expression. ``place`` is the panel and the letter of its query, or the rule's name."""

    source: str
    place: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.source}: {self.place}"

    def filled(self, **variables: str) -> str:
        """As Prometheus takes it: ``$name`` is that variable, or else everything (``.*``)."""
        known = {**_FILLED, **variables}
        return re.sub(r"\$\{?(\w+)\}?", lambda found: known.get(found[1], ".*"), self.text)


@dataclass(frozen=True)
class Selector:
    """Series that an expression reads: their name, and the labels it chooses them by."""

    metric: str
    labels: frozenset[str]

    @property
    def family(self) -> str:
        """The metric as docs/metrics.md names it: of a histogram without ``_bucket``."""
        for part in _PARTS:
            if self.metric.endswith(part):
                return self.metric.removesuffix(part)
        return self.metric


def of_dashboards(folder: Path = DASHBOARDS) -> list[Expression]:
    """Those of all panels and annotations; the source is the file's name."""
    return [
        Expression(path.name, place, text)
        for path in sorted(folder.glob("*.json"))
        for place, text in _of_dashboard(json.loads(path.read_text()))
    ]


def of_rules(path: Path = RULES) -> list[Expression]:
    """Those of all groups; the place is the alert or the series that the rule records."""
    return [
        Expression(path.name, rule.get("alert") or rule["record"], rule["expr"])
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


def recorded(path: Path = RULES) -> set[str]:
    """Names of the series that rules make of others."""
    groups = yaml.safe_load(path.read_text())["groups"]
    return {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}


def selectors(promql: str) -> list[Selector]:
    """What it reads.

    :raises ValueError: it does not parse, or reads series without naming them
    """
    found: list[Selector] = []

    def note(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            if node.name is None:
                raise ValueError(f"no metric is named: {node.prettify()}")
            labels = frozenset(matcher.name for matcher in node.matchers.matchers)
            found.append(Selector(node.name, labels))

    promql_parser.walk(promql_parser.parse(promql), note)
    return found


def _of_dashboard(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"{panel['title']} ({target['refId']})", target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield f"annotation {annotation['name']}", annotation["expr"]
