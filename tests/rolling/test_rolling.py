"""The short form of ``make rolling``, and proofs that the judge can fail."""

import pytest

from tests.rolling.clients import TurnMade
from tests.rolling.measurement import RollingFigures, RollingPlan, judge, measure


@pytest.mark.acceptance
@pytest.mark.alone
async def test_rolling_restarts_repeat_nothing_and_fail_nothing(tmp_path, database_url):
    plan = RollingPlan(restarts=2, clients=6, longest=1.5, grace=20.0, processes=1)
    figures = await measure(plan, database_url, tmp_path)
    print(figures.table())
    assert figures.restarts == 2
    assert figures.drained["at_boundary"] > 0
    assert figures.is_clean, figures.table()


def test_the_judge_finds_what_is_repeated_lost_or_failed() -> None:
    good = TurnMade("SDK stream", [0.2, 0.2], told=[0, 1], done=[0, 1])
    lost = TurnMade("SDK stream", [0.2, 0.2], told=[1], done=[0, 1])
    doubled = TurnMade("httpx stream", [0.2, 0.2], told=[0, 0, 1], done=[0, 1])
    wrong = TurnMade("httpx wait", [0.2, 0.2], done=[0])
    failed = TurnMade("httpx wait", [0.2], failure="ReadError")
    figures = RollingFigures(made=[good, lost, doubled, wrong, failed])
    judge(figures, ["a 0 1 77", "a 1 1 77", "a 1 2 78"])
    assert figures.begun_twice == ["step 1 of turn a began 2 times"]
    assert len(figures.events) == 2
    assert len(figures.values) == 1
    assert len(figures.failed) == 1
    assert not figures.is_clean
    clean = RollingFigures(made=[good])
    judge(clean, ["a 0 1 77"])
    assert clean.is_clean
