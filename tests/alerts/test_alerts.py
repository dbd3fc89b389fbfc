"""The seconds-long form of ``make alerts``: a few faults at once, on a real Prometheus."""

import asyncio

import pytest

from tests.alerts.faults import LONG, SHORT
from tests.alerts.runner import Outcome, observe, table
from tests.alerts.shortened import shortened_expression
from tests.alerts.site import site
from tests.deploy.rules import alerts


def test_each_alert_has_a_fault_in_the_long_form() -> None:
    assert {name for stage in LONG for fault in stage for name in fault.alerts} == set(alerts())


@pytest.mark.parametrize(
    ("true", "short"),
    [
        ("rate(a[5m])", "rate(a[10000ms])"),
        ("rate(a[1m])", "rate(a[4000ms])"),
        ("sum_over_time((a > 0)[20m:2m])", "sum_over_time((a > 0)[40000ms:4000ms])"),
        (
            "max_over_time(a[1d]) unless a offset 15m",
            "max_over_time(a[2880000ms]) unless a offset 30000ms",
        ),
    ],
)
def test_durations_are_shortened_by_one_factor(true: str, short: str) -> None:
    assert shortened_expression(true, 30) == short


@pytest.mark.acceptance
@pytest.mark.paired
@pytest.mark.timeout(300)
def test_alerts_fire_by_their_faults_and_end() -> None:
    async def short_form() -> Outcome:
        async with site(rows=0, table_rows=10_000, callers=4, locust_users=0) as ready:
            return await observe(ready, SHORT, say=print)

    outcome = asyncio.run(short_form())
    print(table(outcome))
    assert outcome.missing == []
    assert outcome.unhealthy == {}
    for seen in outcome.seen:
        assert "<no value>" not in seen.description, seen
        assert "%!" not in seen.description, seen
