"""The seconds-long form of ``make chaos``, and the proofs that its checker can fail."""

import asyncio
import secrets
from dataclasses import replace

import pytest

from tests.chaos.report import table
from tests.chaos.runner import Outcome, Plan, prove, run_chaos

pytestmark = [pytest.mark.acceptance, pytest.mark.alone, pytest.mark.timeout(300)]

STALL = "database stalled past the lease"
PAUSE = "SIGSTOP past the lease, SIGCONT"
KILL = "kill -9 of a process"
DEPLOY = "TERM-deploy of all pods"

#: By the part that is taken out: the rule that must find it, and on what.
PROOFS = {
    "fence": (
        "no write after the lease is lost",
        Plan(seed=1, kinds=("wait", "background"), clients=12, faults=(PAUSE,)),
    ),
    "rescuer": (
        "one terminal status",
        Plan(seed=1, kinds=("background",), clients=12, faults=(KILL,), settle_seconds=4),
    ),
    "store-before-send": (
        "resumable streams: no gap, no duplicate",
        Plan(seed=1, kinds=("resumable",), clients=24, faults=(STALL,)),
    ),
    "handover": (
        "no request failed that the SDK would not carry through",
        Plan(seed=1, kinds=("wait", "background"), clients=12, faults=(DEPLOY,)),
    ),
    "slots": (
        "each slot of a cron: one run, none passed over",
        Plan(seed=1, kinds=("cron",), clients=4, faults=(PAUSE,)),
    ),
    "last-step": (
        "no step that ended before a drain is begun again",
        Plan(seed=1, kinds=("background",), clients=12, faults=(DEPLOY,)),
    ),
}


def test_each_fault_once_breaks_no_rule(tmp_path):
    """A failure names its seed; `make chaos CHAOS_ARGS="--seed N"` deals the same faults."""
    plan = Plan(seed=secrets.randbelow(10**6))
    outcome = asyncio.run(run_chaos(plan, keep=tmp_path))
    print(table(outcome))
    assert outcome.found == 0, f"{table(outcome)}\nhistory and logs: {tmp_path}"
    assert outcome.unexpected == []
    assert set(outcome.injected.values()) == {1}
    told = {asked.kind for asked in outcome.history.asked if asked.told}
    assert told >= {"wait", "stream", "resumable", "background", "interrupt", "resume"}
    assert told >= {"undisturbed", "idempotent", "cancel", "first", "later"}
    assert len(outcome.history.final.firings) > 10


@pytest.fixture(scope="module")
def proofs() -> dict[str, Outcome]:
    """All at the same time, each on servers of its own: mostly they wait."""

    async def all_of_them() -> list[Outcome]:
        return await asyncio.gather(
            *(prove(rule, without(plan, part)) for part, (rule, plan) in PROOFS.items())
        )

    return dict(zip(PROOFS, asyncio.run(all_of_them()), strict=True))


def without(plan: Plan, part: str) -> Plan:
    return replace(plan, without=part, undisturbed=0, processes=1, lease_seconds=2, alone=True)


@pytest.mark.parametrize("part", PROOFS)
def test_the_checker_finds_that_a_part_is_missing(proofs, part):
    print(table(proofs[part]))
    assert proofs[part].violations[PROOFS[part][0]]
