"""The places of a process: which are free, and what wakes the next round of claims."""

import asyncio
from dataclasses import replace

from headrace.auth.principal import ANONYMOUS
from headrace.notices.notifier import PollingNotifier
from headrace.shares import Places
from headrace.worker.roster import Roster
from tests.support.runs import run_request


def roster_of(total, share=1.0):
    return Roster(Places(total, share), PollingNotifier())


def request_of(caller):
    return run_request(principal=replace(ANONYMOUS, caller=caller))


def test_starts_and_a_claim_under_way_take_places():
    roster, request = roster_of(3), request_of("a")
    roster.add_start(request)
    assert (roster.free, roster.busy, roster.has(request.run_id)) == (2, True, True)
    roster.reserve(2)
    assert (roster.free, roster.claimable) == (0, 2)
    roster.reserve(0)
    roster.remove_start(request)
    assert (roster.free, roster.busy, roster.has(request.run_id)) == (3, False, False)


def test_nothing_begins_beside_a_suspect():
    roster = roster_of(3)
    roster.close()
    assert (roster.free, roster.claimable) == (0, 0)
    assert not roster.may_begin("a")
    roster.open()
    assert roster.may_begin("a")


def test_a_caller_at_its_limit_may_begin_no_run_while_another_may():
    roster = roster_of(4, 0.5)
    for _ in range(2):
        roster.add_start(request_of("a"))
    assert not roster.may_begin("a")
    assert roster.may_begin("b")


async def test_what_happens_in_a_round_wakes_the_next_one():
    roster = roster_of(1)
    roster.start_round()
    roster.announce()
    async with asyncio.timeout(5):
        await roster.until_woken(60)
    roster.start_round()
    await roster.until_woken(0.01)
    roster.drain()
    async with asyncio.timeout(5):
        await roster.until_woken(60)
