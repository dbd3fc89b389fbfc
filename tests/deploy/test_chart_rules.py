"""The PrometheusRule of the chart and deploy/prometheus/rules.yaml: two forms of one source."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.chart import Refused, Rendered, render
from tests.deploy.expressions import RULES
from tests.deploy.rules import RUNBOOKS, alerts, groups, plain_rules, runbook
from tests.deploy.tools import HERE
from tests.support.sources import ROOT

SECRET, FULL = (HERE / "values" / f"{name}.yaml" for name in ("secret", "full"))
#: What limits a rule to the release `my` in the namespace `agents`.
SELECTOR = 'namespace="agents", job=~"(agents/)?my-headrace"'


def rendered_groups(rendered: Rendered) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rendered.one("PrometheusRule")["spec"]["groups"]
    return found


def rendered_alerts(rendered: Rendered) -> dict[str, dict[str, Any]]:
    rules = [rule for group in rendered_groups(rendered) for rule in group["rules"]]
    return {rule["alert"]: rule for rule in rules if "alert" in rule}


def test_the_plain_file_is_what_the_source_says() -> None:
    assert RULES.read_text() == plain_rules(), "run: make manifests"


def test_no_word_in_brackets_is_left(each_helm: Path) -> None:
    rendered = render(each_helm, SECRET, metrics__rules__enabled=True)
    assert "[[" not in rendered.text
    assert "[[" not in RULES.read_text()


def test_the_chart_has_the_rules_of_the_plain_file(each_helm: Path) -> None:
    """The defaults differ in one thing: the chart's rules look at their own release only."""
    plain = groups(RULES.read_text())
    rendered = rendered_groups(render(each_helm, SECRET, metrics__rules__enabled=True))
    for group in rendered:
        group["name"] = group["name"].removeprefix("my-headrace.")
        for rule in group["rules"]:
            assert SELECTOR in rule["expr"]
            shorter = rule["expr"].replace("up{" + SELECTOR + "}", 'up{job="headrace"}')
            shorter = shorter.replace("{" + SELECTOR + "}", "").replace(SELECTOR + ", ", "")
            rule["expr"] = shorter
    assert rendered == plain


def test_every_series_of_the_chart_is_of_its_release(helm4: Path) -> None:
    selector = 'pod=~"mine-.*"'
    values: dict[str, Any] = {
        "metrics__rules__enabled": True,
        "metrics__rules__selector": selector,
    }
    for group in rendered_groups(render(helm4, SECRET, **values)):
        for rule in group["rules"]:
            read = re.findall(
                r"\b(?:job:)?(?:headrace_\w+(?::\w+)?|up)\b(\{[^}]*\})?", rule["expr"]
            )
            assert read
            assert all(selector in labels for labels in read), rule["expr"]


def test_values_reach_the_rules(helm4: Path) -> None:
    found = rendered_alerts(render(helm4, FULL))
    assert set(found) == set(alerts()) - {"HeadraceGone", "HeadraceScrapeFails"}
    assert {rule["labels"]["severity"] for rule in found.values()} == {"critical", "warning"}
    assert {rule["labels"]["team"] for rule in found.values()} == {"agents"}
    assert "14.4 * (1 - 0.99)" in found["HeadraceErrorBudgetBurnsFast"]["expr"]
    assert found["HeadraceQueueOld"]["expr"].endswith("> 300")
    address = found["HeadraceQueueOld"]["annotations"]["runbook_url"]
    assert address == "https://example.org/runbooks/queue-old.md"


def test_without_the_value_there_is_none(helm4: Path) -> None:
    assert not render(helm4, SECRET).all("PrometheusRule")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("objectives__availability", 99.9),
        ("objectives__checkpointSeconds", 60),
        ("thresholds__tableRows", 0),
        ("thresholds__bogus", 1),
        ("leaveOut", ["SomeAlert"]),
        ("runbooks", "docs/runbooks"),
    ],
)
def test_values_that_mean_nothing_are_refused(helm4: Path, name: str, value: object) -> None:
    values: dict[str, Any] = {f"metrics__rules__{name}": value}
    with pytest.raises(Refused, match=name.split("__")[-1]):
        render(helm4, SECRET, **values)


def test_every_alert_says_what_a_human_needs() -> None:
    address = f"https://github.com/headrace/headrace/tree/main/{RUNBOOKS.relative_to(ROOT)}"
    for name, rule in alerts().items():
        assert rule["labels"] == {"severity": rule["labels"]["severity"]}, name
        assert rule["labels"]["severity"] in {"page", "ticket"}, name
        said = rule["annotations"]
        assert set(said) == {"summary", "description", "runbook_url"}, name
        assert said["runbook_url"] == f"{address}/{runbook(name).name}", name
        assert re.fullmatch(r"[A-Z].{20,90}\.", said["summary"]), name
        assert said["description"].endswith("."), name
