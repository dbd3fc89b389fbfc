"""The seconds-long form of ``make attack``, and the proofs that its judge can fail."""

import os
import signal

import pytest

from tests.attack.judge import Facts, let_through
from tests.attack.report import summary, told
from tests.attack.rows.table import ROWS
from tests.attack.runner import Plan, attack, attack_in_turn
from tests.attack.site import Target

pytestmark = [pytest.mark.acceptance, pytest.mark.alone]

SHORT = Plan(seconds=3, scale=0.02, baseline_seconds=1, recovery_seconds=1, warm_up_seconds=1)
NUMBERS = (7, 17, 18, 19, 20, 21)


@pytest.fixture(scope="module")
def found(postgres, template) -> dict[int, Facts]:
    """One after another on one server; `make attack` starts one for each row."""
    rows = [ROWS[number] for number in NUMBERS]
    return dict(zip(NUMBERS, attack_in_turn(rows, SHORT, postgres, template), strict=True))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("number", NUMBERS)
def test_a_row_lets_nothing_through(found, number):
    facts = found[number]
    assert not let_through(facts), told(summary(facts))
    assert facts.tally.refused >= 5
    assert len(facts.during) >= 5


def kill_a_process(server: Target) -> None:
    os.kill(server.children()[0], signal.SIGKILL)


def test_a_server_without_a_limit_and_a_lost_process_are_told(postgres, template):
    unlimited = {"HEADRACE_REQUESTS__MAX_RECURSION_LIMIT": str(2**31 - 1)}
    plan = Plan(
        seconds=3,
        scale=0.02,
        baseline_seconds=1,
        recovery_seconds=1,
        warm_up_seconds=1,
        settings=unlimited,
        sabotage=kill_a_process,
    )
    found = let_through(attack(ROWS[12], plan, postgres, template))
    assert any(sentence.startswith("/runs/wait: 200") for sentence in found), found
    assert found["a process was replaced"] == 1
