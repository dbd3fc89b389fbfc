"""The overload in small: what it measures of a server with few places, and how it judges."""

import json
from collections import Counter

import pytest

from loadtests.measuring.client import Outcome
from loadtests.overload.__main__ import Plan, run
from loadtests.overload.rounds import Phase, Round, Rows
from loadtests.overload.verdict import judged
from tests.support.load import measuring


def phase(
    clients: int, *, seconds: float = 10.0, per_second: int = 100, took: float = 0.1
) -> Phase:
    """A phase whose runs were answered at a steady rate."""
    seconds = 10.0
    outcome = Outcome(seconds=seconds)
    for number in range(int(seconds * per_second)):
        outcome.statuses.setdefault("run", Counter())[200] += 1
        outcome.note("accepted", number / per_second)
        outcome.note("seconds", took)
    return Phase(clients, outcome, Outcome(seconds=seconds), 1.0)


def verdicts(round_: Round, rows: Rows) -> dict[str, str]:
    return {one.label: one.verdict for one in judged([round_], rows)}


def test_a_crowd_that_is_served_well():
    round_ = Round([phase(32)], phase(320, per_second=90), phase(32))
    for milliseconds in range(1, 99):
        round_.crowd.livez.note("livez", float(milliseconds))
    rows = Rows({"success": 3000}, accepted=2900, lease_losses=0)
    assert round_.share_of_peak == pytest.approx(0.9)
    assert round_.recovery_seconds == 0
    assert not {"missed"} & set(verdicts(round_, rows).values())


def test_what_must_not_be_is_told():
    round_ = Round([phase(32)], phase(320, per_second=50), phase(32))
    round_.crowd.outcome.note("refused without Retry-After: 503", 1.0)
    round_.crowd.outcome.statuses["run"][500] += 1
    round_.after.outcome.notes["seconds"][:900] = [0.5] * 900
    rows = Rows({"success": 10, "running": 1, "error": 1}, accepted=11, lease_losses=1)
    told = verdicts(round_, rows)
    assert round_.recovery_seconds == 9
    assert {label for label, verdict in told.items() if verdict != "missed"} == {
        "seconds until latency is normal"
    }
    assert round_.crowd.faults == {"refused without Retry-After: 503": 1, "status 500": 1}


def test_latency_that_stays_high_is_no_recovery():
    round_ = Round([phase(32)], phase(320), phase(32, took=0.5))
    assert round_.recovery_seconds == 10


def test_the_time_between_crowd_and_the_next_clients_is_part_of_the_recovery():
    crowd, after = phase(320), phase(32)
    crowd.ended_at, after.began_at = 50.0, 56.5
    assert Round([phase(32)], crowd, after).recovery_seconds == 6.5
    after.outcome.notes["seconds"][:300] = [0.5] * 300
    assert Round([phase(32)], crowd, after).recovery_seconds == 9.5


@measuring
@pytest.mark.acceptance
@pytest.mark.alone
def test_a_short_overload_refuses_and_loses_nothing(database_url, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DATABASE_URL", database_url)
    plan = Plan(
        calm=[8], crowd=64, calm_seconds=1.0, crowd_seconds=3.0, after_seconds=1.5, rounds=1
    )
    # So few places that some requests must be refused.
    settings = {
        "HEADRACE_REQUESTS__AT_ONCE": "1",
        "HEADRACE_REQUESTS__WAIT_SECONDS": "0.1",
        "HEADRACE_REQUESTS__MAX_WAITING": "4",
    }
    run(plan, results=tmp_path, settings=settings)
    result = json.loads((tmp_path / "overload.json").read_text())
    assert result["machine"]["loop_milliseconds"] > 0
    (phases,) = result["rounds"]
    crowd = phases[1]
    assert crowd["statuses"]["200"] > 0
    assert crowd["statuses"]["503"] > 0, capsys.readouterr().out
    assert result["refusals"]["overloaded"] >= crowd["statuses"]["503"]
    assert all(one["faults"] == {} for one in phases)
    told = {one["label"]: one["verdict"] for one in result["judged"]}
    for label in ("runs lost", "runs that did not end", "runs that failed", "leases lost"):
        assert told[label] == "goal"
