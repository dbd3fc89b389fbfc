"""The rules of Prometheus: one source in the chart, and the file that is written from it.

The chart renders its PrometheusRule from the source by itself; a test compares the two.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.chart import CHART
from tests.deploy.expressions import RULES
from tests.support.sources import ROOT

SOURCE = CHART / "files" / "rules.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks"

_HEADER = """\
# Written by `make manifests` from deploy/helm/headrace/files/rules.yaml: change that instead.
# The recording rules and alerts of headrace, with the defaults of the chart. The job of Prometheus
# that scrapes headrace has the name `headrace`. Each alert has a page in docs/runbooks/.
#
# severity page: users have trouble now, and somebody has to act. severity ticket: within days.
"""
#: Of all series that ``up`` has, those of deploy/prometheus/prometheus.yml.
_TARGET = 'job="headrace"'

Rule = dict[str, Any]


def defaults() -> dict[str, Any]:
    """What stands for the words in double brackets, as values.yaml says."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())["metrics"]["rules"]
    return {"runbooks": values["runbooks"], **values["objectives"], **values["thresholds"]}


def filled(text: str, values: dict[str, Any]) -> str:
    """The source for every installation that a Prometheus knows."""
    for name, value in values.items():
        text = text.replace(f"[[{name}]]", str(value))
    text = text.replace("[[selector]], ", "").replace("{[[selector]]}", "")
    return text.replace("[[target]]", _TARGET)


def plain_rules() -> str:
    """The text of deploy/prometheus/rules.yaml."""
    _, rules = SOURCE.read_text().split("\ngroups:\n")
    return f"{_HEADER}\ngroups:\n{filled(rules, defaults())}"


def groups(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(text)["groups"]
    return found


def alerts(text: str | None = None) -> dict[str, Rule]:
    """Each alert by its name."""
    text = RULES.read_text() if text is None else text
    return {
        rule["alert"]: rule for group in groups(text) for rule in group["rules"] if "alert" in rule
    }


def runbook(alert: str) -> Path:
    """The page of an alert: HeadracePoolSaturated has pool-saturated.md."""
    words = re.findall(r"[A-Z][a-z]*", alert.removeprefix("Headrace"))
    return RUNBOOKS / ("-".join(words).lower() + ".md")
