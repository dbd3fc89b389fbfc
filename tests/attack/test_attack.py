"""The seconds-long form of ``make attack``, and the proofs that its judge can fail."""

import os
import signal

import pytest

from tests.attack.judge import let_through
from tests.attack.report import summary, told
from tests.attack.rows.table import ROWS
from tests.attack.runner import Plan, attack
from tests.attack.site import Target

pytestmark = [pytest.mark.acceptance, pytest.mark.alone]

SHORT = Plan(seconds=3, scale=0.02, baseline_seconds=1, recovery_seconds=1, warm_up_seconds=1)


@pytest.mark.parametrize("number", [7, 17])
def test_a_row_lets_nothing_through(postgres, template, number):
    facts = attack(ROWS[number], SHORT, postgres, template)
    assert not let_through(facts), told(summary(facts))
    assert facts.tally.tried > 20
    assert facts.tally.refused > 10
    assert len(facts.during) > 5


def kill_a_process(server: Target) -> None:
    os.kill(server.children()[0], signal.SIGKILL)


def test_a_server_without_a_limit_and_a_lost_process_are_told(postgres, template):
    unlimited = {"HEADRACE_REQUESTS__MAX_RECURSION_LIMIT": str(2**31 - 1)}
    plan = Plan(
        seconds=3,
        scale=0.02,
        baseline_seconds=1,
        recovery_seconds=3,
        warm_up_seconds=1,
        settings=unlimited,
        sabotage=kill_a_process,
    )
    found = let_through(attack(ROWS[12], plan, postgres, template))
    assert any(sentence.startswith("/runs/wait: 200") for sentence in found), found
    assert found["a process was replaced"] == 1
