"""The rules, by promtool: each alert fires, does not fire just below, and ends."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.alerts.worlds import CASES, EVERYDAY, World
from tests.deploy.expressions import RULES
from tests.deploy.rules import alerts
from tests.support.tools import require_tool

#: When a world in which nothing may fire is looked at, in minutes.
_LOOKS = (2, 5, 8, 11, 13, 16, 20, 25, 32, 40, 50, 59)

Question = dict[str, Any]


def promtool(*command: str | Path) -> subprocess.CompletedProcess[str]:
    tool = require_tool("promtool", remedy="make ci-tools")
    return subprocess.run([tool, *command], capture_output=True, text=True)


def firing(minute: int, count: int, name: str = "Headrace.+") -> Question:
    """Whether so many alerts of that name fire then."""
    selected = f'ALERTS{{alertname=~"{name}", alertstate="firing"}}'
    return {
        "expr": f"count({selected}) or vector(0)",
        "eval_time": f"{minute}m",
        "exp_samples": [{"labels": "{}", "value": count}],
    }


def world(series: World, *questions: Question) -> dict[str, Any]:
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": text} for name, text in series.items()],
        "promql_expr_test": list(questions),
    }


def passes(folder: Path, *worlds: dict[str, Any]) -> None:
    test = folder / "test.yaml"
    content = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": list(worlds),
    }
    test.write_text(yaml.safe_dump(content))
    done = promtool("test", "rules", test)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules() -> None:
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_case() -> None:
    assert set(CASES) == set(alerts())


@pytest.mark.parametrize("name", CASES)
def test_it_fires_and_ends(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    questions = [firing(case.fires_at, 1, name), firing(case.ends_at, 0, name)]
    if alerts()[name].get("for"):
        questions.insert(0, firing(case.silent_at, 0, name))
    passes(tmp_path, world(case.fires, *questions))


@pytest.mark.parametrize("name", CASES)
def test_it_is_silent_just_below(tmp_path: Path, name: str) -> None:
    assert CASES[name].silent
    looks = [firing(minute, 0, name) for minute in _LOOKS]
    passes(tmp_path, *(world(series, *looks) for series in CASES[name].silent))


@pytest.mark.parametrize("what", EVERYDAY)
def test_every_day_has_no_page(tmp_path: Path, what: str) -> None:
    """A deploy and one lost process are no trouble of users, and nobody's work."""
    looks = [firing(minute, 0) for minute in range(1, 60)]
    passes(tmp_path, world(EVERYDAY[what], *looks))
