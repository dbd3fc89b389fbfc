"""The seconds-long form of ``make chaos``, and the proof that its checker can fail."""

import secrets
from dataclasses import replace

import pytest
from fastapi import FastAPI

from headrace.server.app import build_router
from tests.chaos.load import NEEDS
from tests.chaos.report import table
from tests.chaos.runner import Outcome, Plan, run_chaos

pytestmark = [pytest.mark.acceptance, pytest.mark.alone, pytest.mark.timeout(400)]

STALL = "database stalled past the lease"
KILL = "kill -9 of a process"


async def outcome_of(plan: Plan) -> Outcome:
    outcome = await run_chaos(plan)
    print(table(outcome))
    return outcome


async def found(rule: str, plan: Plan) -> list[str]:
    """What the checker finds against a rule; asked up to three times, since a fault has to meet a
    run at the right moment to do harm."""
    for seed in range(1, 4):
        outcome = await outcome_of(replace(plan, seed=seed))
        if outcome.violations[rule]:
            break
    return outcome.violations[rule]


async def test_a_minute_of_everything_breaks_no_rule(tmp_path):
    """A failure names its seed; `make chaos CHAOS_ARGS="--seed N"` deals the same faults."""
    plan = Plan(seconds=60, seed=secrets.randbelow(10**6))
    outcome = await run_chaos(plan, keep=tmp_path)
    print(table(outcome))
    assert outcome.found == 0, f"{table(outcome)}\nhistory and logs: {tmp_path}"
    assert outcome.unexpected == []
    assert sum(outcome.injected.values()) >= 10
    told = {asked.kind for asked in outcome.history.asked if asked.told}
    assert {"wait", "stream", "interrupt", "resume", "undisturbed"} <= told


async def test_without_the_fence_the_checker_finds_writes_of_a_process_that_lost_its_lease():
    plan = Plan(seconds=14, seed=1, clients=4, undisturbed=0, without="fence", faults=(STALL,))
    assert await found("no write after the lease is lost", plan)


async def test_without_the_rescuer_the_checker_finds_runs_that_never_end():
    outcome = await outcome_of(
        Plan(
            seconds=6,
            seed=1,
            clients=4,
            undisturbed=0,
            without="rescuer",
            faults=(KILL,),
            settle_seconds=10,
        )
    )
    assert outcome.violations["one terminal status"]


async def test_without_storing_before_sending_the_checker_finds_gaps_in_streams():
    app = FastAPI()
    app.include_router(build_router())
    if NEEDS["resumable"] not in app.openapi()["paths"]:
        pytest.skip("streams cannot be joined again yet")
    plan = Plan(
        seconds=14,
        seed=1,
        clients=16,
        kinds=("resumable",),
        undisturbed=0,
        without="store-before-send",
        faults=(STALL,),
    )
    assert await found("resumable streams: no gap, no duplicate", plan)
