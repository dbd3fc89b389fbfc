"""The short form of ``make ledger``."""

import asyncio
import secrets

import pytest

from tests.ledger.report import table, verdicts
from tests.ledger.site import DURABILITIES, Plan, killed_runs

pytestmark = [pytest.mark.acceptance, pytest.mark.paired]


def test_ten_kills_lose_no_writes_and_repeat_no_finished_step(tmp_path, database_url):
    plan = Plan(kills=10, seed=secrets.randbelow(10**6), steps=8)
    outcome = asyncio.run(killed_runs(plan, tmp_path, database_url))
    print(table(outcome))
    found = verdicts(outcome)
    assert set(found) == set(DURABILITIES)
    assert [sentence for one in found.values() for sentence in one.violations] == []
    assert sum(one.again for one in found.values()) > 0
