"""Every alert has its page, every page its alert; what the pages ask for is there."""

import re
from pathlib import Path

import psycopg
import pytest

from tests.deploy.expressions import recorded, selectors
from tests.deploy.rules import RUNBOOKS, alerts, runbook
from tests.support.sources import ROOT, page

HEADINGS = [
    "What you see",
    "What it means for users",
    "Three queries",
    "What to do",
    "How it ends",
]
PAGES = sorted(path for path in RUNBOOKS.glob("*.md") if path.name != "README.md")
#: Prometheus makes these by itself.
_OWN = {"up", "scrape_duration_seconds"}

each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)


def queries(path: Path) -> list[tuple[str, str]]:
    """Language and text."""
    return re.findall(r"^```(\w+)\n(.+?)\n```$", path.read_text(), re.MULTILINE | re.DOTALL)


def known_metrics() -> set[str]:
    return set(re.findall(r"`(\w+)`", page("metrics.md"))) | recorded() | _OWN


def promql_of(*paths: Path) -> list[str]:
    return [text for path in paths for language, text in queries(path) if language == "promql"]


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    assert {path: path.exists() for path in map(runbook, alerts())} == dict.fromkeys(PAGES, True)


@each_page
def test_pages_have_one_form(path: Path) -> None:
    text = path.read_text()
    (name,) = re.findall(r"^# (\w+)$", text, re.MULTILINE)
    assert runbook(name) == path
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    parts = re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]
    assert all(part.strip() for part in parts)
    assert len(queries(path)) == 3
    assert {language for language, _ in queries(path)} <= {"promql", "sql"}
    assert 3 <= len(re.findall(r"^- ", parts[3], re.MULTILINE)) <= 5
    assert len(text.splitlines()) <= 60


def test_the_index_tells_page_or_ticket_in_the_order_of_the_rules() -> None:
    index = (RUNBOOKS / "README.md").read_text()
    listed = re.findall(r"^- \[([\w-]+\.md)\]\(\1\) \((\w+)\)", index, re.MULTILINE)
    assert listed == [
        (runbook(name).name, rule["labels"]["severity"]) for name, rule in alerts().items()
    ]


@pytest.mark.parametrize("path", [*PAGES, ROOT / "docs" / "slo.md"], ids=lambda path: path.stem)
def test_queries_parse_and_name_what_there_is(path: Path) -> None:
    read = [one for text in promql_of(path) for one in selectors(text)]
    assert {one.family for one in read} - known_metrics() == set()


def test_sql_is_executed(database: psycopg.Connection) -> None:
    asked = 0
    for path in PAGES:
        for language, text in queries(path):
            if language == "sql":
                database.execute(text.encode())
                asked += 1
    assert asked > 15


def test_pages_name_events_that_are_logged() -> None:
    """Words in backticks that look like an event: in the log, they would be found."""
    logged = page("metrics.md").split("\n## Log events\n")[1]
    named = {
        (path.name, event)
        for path in PAGES
        for event in re.findall(r"`([a-z]+(?:_[a-z]+)+)` in the log", path.read_text())
    }
    assert len(named) > 10
    assert {(name, event) for name, event in named if f"| `{event}` |" not in logged} == set()


def test_rules_read_what_the_page_of_metrics_has() -> None:
    known = known_metrics()
    unknown = {
        (name, one.family)
        for name, rule in alerts().items()
        for one in selectors(rule["expr"])
        if one.family not in known
    }
    assert unknown == set()


def test_the_table_of_what_was_seen_has_every_alert() -> None:
    seen = page("slo.md").split("\n## How they are tested\n")[1]
    assert set(re.findall(r"^\| `(Headrace\w+)` \|", seen, re.MULTILINE)) == set(alerts())
    assert "never" not in seen
