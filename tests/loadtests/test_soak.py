"""The soak in small, against a server and a database of its own; and how it judges growth."""

import json
import random

import pytest

from loadtests.measuring.charts import Line, Lines, lines
from loadtests.measuring.figures import missed
from loadtests.soak.__main__ import Plan, soak
from loadtests.soak.locust import outcome_from
from loadtests.soak.samples import Sample
from loadtests.soak.trends import judged, refusals, settled, slope, trends
from tests.support.load import measuring
from tests.support.sources import ROOT
from tests.support.tools import require_tool


def samples(**growth: float) -> list[Sample]:
    """A million requests; each figure begins at 100, with noise, and grows so much for 100,000."""
    noise = random.Random(7)
    return [
        Sample(
            seconds=number * 5.0,
            requests=number * 10_000,
            values={
                name: 100 + step * number / 10 + noise.uniform(-1, 1)
                for name, step in growth.items()
            },
        )
        for number in range(101)
    ]


def test_growth_is_found_in_noise():
    found = trends(samples(flat=0.0, grown=2.0))
    assert [one.name for one in found] == ["flat", "grown"]
    assert found[0].growth == pytest.approx(0.0, abs=0.2)
    assert found[1].growth == pytest.approx(2.0, abs=0.2)


def test_what_happens_at_first_is_not_judged():
    some = samples(flat=0.0)
    early = [
        Sample(one.seconds, one.requests, {"flat": one.values["flat"] / (2 - number / 30)})
        for number, one in enumerate(some[:30])
    ]
    assert trends(early + some[30:]) == trends(some)
    assert settled(some)[0].requests == pytest.approx(1_000_000 / 3, abs=10_000)


@pytest.mark.parametrize(
    "name", ["RSS MiB, process 1", "files, master", "connections", "tables MiB"]
)
def test_what_grows_misses_its_floor(name):
    assert not missed(judged(trends(samples(**{name: 0.0}))))
    assert missed(judged(trends(samples(**{name: 4.0}))))


@pytest.mark.parametrize(("refused", "verdict"), [(0, "floor"), (10, "floor"), (11, "missed")])
def test_more_than_one_percent_of_refusals_misses_the_floor(refused, verdict):
    entries = [
        {"name": "wait", "requests": 1000 - refused},
        {"name": "wait refused", "requests": refused},
        {"name": "stream first event", "requests": 500},
    ]
    shown = {"type": "POST", "per_second": 1.0, "p50_ms": 1, "p95_ms": 1, "p99_ms": 1}
    outcome = outcome_from(
        {
            "entries": [{**one, **shown} for one in entries],
            "overall": {"failures": 0, "p50_ms": 1, "p95_ms": 1, "p99_ms": 1},
            "failures": [],
            "thresholds_broken": [],
            "client_cpu_seconds": 1.0,
        },
        0,
    )
    assert (outcome.failures, outcome.refused) == (0, refused)
    judgement = refusals(outcome.refused_percent)
    assert judgement.found["median"] == refused / 10
    assert judgement.verdict == verdict
    assert missed([judgement]) is (verdict == "missed")


def test_few_samples_say_nothing():
    assert trends(samples(flat=0.0)[:5]) == []
    assert trends([]) == []
    assert slope([1.0, 1.0], [2.0, 3.0]) == 0.0


def test_a_linear_scale_has_few_marks():
    points = [(float(number), 1.0) for number in range(1000)]
    drawn = lines("many", [Lines("p", [Line("a", points)], "requests", "MiB", linear=True)])
    assert drawn.count('text-anchor="middle"') == 6


@pytest.mark.parametrize(
    ("name", "value"),
    [("SOAK_REQUESTS", "many"), ("SOAK_USERS", "0"), ("SOAK_SAMPLE_SECONDS", "-1")],
)
def test_settings_that_cannot_be(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        Plan.of({name: value})


@measuring
@pytest.mark.acceptance
def test_a_short_soak_finds_no_failure(database_url, tmp_path, monkeypatch, capsys):
    require_tool(str(ROOT / ".tools/load/bin/locust"), remedy="make .tools/load/load.stamp")
    monkeypatch.setenv("DATABASE_URL", database_url)
    plan = Plan.of({"SOAK_REQUESTS": "600", "SOAK_SAMPLE_SECONDS": "0.5", "SOAK_USERS": "8"})
    assert soak(replace_results(plan, tmp_path)) == 0, capsys.readouterr().out
    result = json.loads((tmp_path / "soak.json").read_text())
    assert result["requests"] >= 600
    assert result["outcome"]["failures"] == result["runs_unfinished"] == 0
    assert {"RSS MiB, process 1", "files, process 2", "connections"} <= set(result["samples"][-1])
    assert [one["label"] for one in result["judged"]] == ["refused requests in %"]
    assert result["tables"]["checkpoints"]["bytes"] > 0
    assert result["machine"]["loop_milliseconds"] > 0
    assert (tmp_path / "soak.svg").exists()


def replace_results(plan: Plan, folder):
    return Plan(plan.requests, plan.users, plan.sample_seconds, folder, None)
