"""`make sizing` in small, and how it judges and reckons."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from loadtests.sizing.levels import KINDS, kept_up, saturated
from loadtests.sizing.report import best_of, charts, lines, section, whole_row
from loadtests.sizing.schedules import CREATE, JOIN, RUN, STATE, WAIT, Schedule
from tests.support.load import measuring
from tests.support.sources import ROOT


@measuring
@pytest.mark.acceptance
@pytest.mark.alone
@pytest.mark.timeout(180)
def test_the_short_form_makes_all_runs_and_has_all_figures(tmp_path, database_url):
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.sizing", "--short", "--results", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert (tmp_path / "sizing.json").exists(), done.stdout + done.stderr
    result = json.loads((tmp_path / "sizing.json").read_text())
    assert result["machine"]["loop_milliseconds"] > 0
    assert list(result["levels"]) == list(KINDS)
    for kind, (level,) in result["levels"].items():
        assert set(level["statuses"]) == {"success"}
        assert level["failed"] == 0
        assert level["loop_milliseconds"] > 0
        assert level["runs_per_second"] > 1
        assert set(level["cores"]) == {"server", "postgres", "client", "others"}
        names = {"background_and_reads": {CREATE, STATE, RUN, JOIN}, "wait": {WAIT}}
        assert names.get(kind, {CREATE}) <= set(level["milliseconds"])
    assert section(result)
    assert set(charts(result)) == {"sizing.svg"}


def level(rate: float = 100.0, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "rate": rate,
        "reads": 0.0,
        "runs_per_second": rate,
        "reads_per_second": 0.0,
        "in_flight": 100,
        "failed": 0,
        "statuses": {"success": 1000},
        "added_milliseconds": {"p50": 5.0, "p95": 10.0, "p99": 20.0},
        "milliseconds": {CREATE: {"p50": 5.0, "p99": 9.0}},
        "cores": {"server": 0.5, "postgres": 0.1, "client": 0.1},
        "connections": 10,
    }
    return found | changes


def test_a_rate_is_kept_up_if_all_runs_came_succeeded_and_were_quick():
    assert kept_up(level())
    assert saturated(level(runs_per_second=90.0))
    assert not kept_up(level(runs_per_second=90.0))
    assert not kept_up(level(failed=1))
    assert not kept_up(level(statuses={"success": 10, "running": 1}))
    assert not kept_up(level(added_milliseconds={"p50": 5.0, "p95": 10.0, "p99": 101.0}))
    assert best_of([level(50), level(100), level(200, failed=1)]) == level(100)


def test_the_whole_row_is_reckoned_from_what_a_run_takes():
    row = whole_row(level(100), processes=2)
    assert row == {
        "server_cores": 2.5,
        "postgres_cores": 0.5,
        "cores": 3.0,
        "pods": 4,
        "connections": 20,
    }
    result = {"processes": 2, "levels": {"background": [level(100)], "wait": [level(50, failed=1)]}}
    printed = "\n".join(lines(result))
    assert "100 runs a second kept up" in printed
    assert "500 a second would take 3 cores" in printed
    assert "wait: 50 runs a second at most, and no rate was kept up" in printed
    told = "\n".join(section(result))
    assert "20, and Redis" in told
    assert r"`runs/wait` \* | 50 |" in told


def test_visitors_are_enough_for_the_rate():
    assert Schedule(500.0).visitors == 125
    assert Schedule(500.0, how=WAIT).visitors == 800
    assert Schedule(500.0, reads=500.0).visitors == 125 + 250
    assert Schedule(10.0).visitors == 16
