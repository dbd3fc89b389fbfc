"""Every way to stop a run leaves its reason in the row of the run, or in the log if that goes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypedDict

import pytest
import structlog
from langgraph.graph import START, StateGraph

from headrace.auth.principal import ANONYMOUS
from headrace.following.followed_run import FollowedRun
from headrace.runs.schemas import MultitaskStrategy, RunCreate, RunsCancel
from tests.support.pair import Process, open_states
from tests.support.waiting import eventually

THREAD = "11111111-1111-4111-8111-111111111111"
SECONDS = 10


class State(TypedDict, total=False):
    done: bool


class Holder:
    """A graph that waits to be stopped, and then stops when it may."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.may_stop = asyncio.Event()
        self.graph: StateGraph[Any, Any, Any, Any] = StateGraph(State)
        self.graph.add_node("hold", self._hold)
        self.graph.add_edge(START, "hold")

    async def _hold(self, state: State) -> State:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await self.may_stop.wait()
        return {"done": True}


@pytest.fixture
def holder() -> Holder:
    return Holder()


@asynccontextmanager
async def two(url: str, holder: Holder) -> AsyncIterator[list[Process]]:
    async with open_states(url, {"holder": holder.graph}) as processes:
        try:
            yield processes
        finally:
            holder.may_stop.set()


async def start(process: Process, strategy: MultitaskStrategy | None = None) -> FollowedRun:
    body = RunCreate(
        assistant_id="holder", input={}, multitask_strategy=strategy, if_not_exists="create"
    )
    return await process.runs.create(ANONYMOUS, THREAD, body, request_id="")


async def cancel_one(there: Process, run: FollowedRun) -> None:
    await there.runs.cancel(ANONYMOUS, THREAD, run.run_id, "interrupt")


async def cancel_named(there: Process, run: FollowedRun) -> None:
    which = RunsCancel(thread_id=THREAD, run_ids=[run.run_id])
    await there.runs.cancel_many(ANONYMOUS, which, "interrupt")


async def cancel_all(there: Process, run: FollowedRun) -> None:
    await there.runs.cancel_many(ANONYMOUS, RunsCancel(status="all"), "interrupt")


async def roll_back(there: Process, run: FollowedRun) -> None:
    await there.runs.cancel(ANONYMOUS, THREAD, run.run_id, "rollback")


async def leave(there: Process, run: FollowedRun) -> None:
    joined = await there.runs.follow(ANONYMOUS, THREAD, run.run_id)
    there.runs.cancel_soon(joined, "client disconnected")


async def replace(there: Process, run: FollowedRun) -> None:
    await start(there, "interrupt")


async def replace_undone(there: Process, run: FollowedRun) -> None:
    await start(there, "rollback")


async def delete_run(there: Process, run: FollowedRun) -> None:
    await there.runs.delete(ANONYMOUS, THREAD, run.run_id, timeout_seconds=SECONDS)


async def delete_thread(there: Process, run: FollowedRun) -> None:
    await there.thread_removal.delete(ANONYMOUS, THREAD)


WAYS = {
    "client": [cancel_one, cancel_named, cancel_all, roll_back],
    "disconnect": [leave],
    "next_run": [replace, replace_undone],
    "deleted": [delete_run, delete_thread],
}


@pytest.mark.parametrize("there", [0, 1], ids=["its process", "another process"])
@pytest.mark.parametrize(
    ("reason", "way"),
    [pytest.param(reason, way, id=way.__name__) for reason in WAYS for way in WAYS[reason]],
)
async def test_the_reason_is_in_the_row_before_the_run_ends(
    database_url, database, holder, reason, way, there
):
    async with two(database_url, holder) as processes:
        run = await start(processes[0])
        await asyncio.wait_for(holder.begun.wait(), SECONDS)
        asking = asyncio.create_task(way(processes[there], run))
        stored = "SELECT cancel_reason, cancel_asked_at >= created_at FROM runs WHERE run_id = %s"

        def told() -> Any:
            found = database.execute(stored, (run.run_id,)).fetchone()
            return found and found[0] and found

        if way is leave and there == 0:
            # Asked in its process alone: its end stores the reason.
            await asking
            assert told() is None
            holder.may_stop.set()
        assert await eventually(told) == (reason, True)
        holder.may_stop.set()
        await asking


@pytest.mark.parametrize(
    ("reason", "way"), [("client", roll_back), ("next_run", replace_undone)], ids=["client", "next"]
)
async def test_a_rollback_says_in_the_log_what_nothing_else_will_say(
    database_url, holder, reason, way
):
    async with two(database_url, holder) as (here, there):
        run = await start(here)
        await asyncio.wait_for(holder.begun.wait(), SECONDS)
        waiting = await start(here)
        with structlog.testing.capture_logs(
            processors=[structlog.contextvars.merge_contextvars]
        ) as lines:
            if way is roll_back:
                await roll_back(there, waiting)
            await way(there, run)
            holder.may_stop.set()
            await run.outcome(SECONDS)
        undone = {
            (one["run_id"], one["thread_id"], one["reason"])
            for one in lines
            if one["event"] == "run_rolled_back"
        }
        assert undone == {(str(one.run_id), THREAD, reason) for one in (run, waiting)}


@pytest.mark.parametrize(("reason", "way"), [("client", cancel_one), ("next_run", replace)])
async def test_a_run_that_still_waits_has_the_reason_too(
    database_url, database, holder, reason, way
):
    async with two(database_url, holder) as (here, there):
        await start(here)
        await asyncio.wait_for(holder.begun.wait(), SECONDS)
        waiting = await start(here)
        await way(there, waiting)
        row = database.execute(
            "SELECT status, cancel_reason, cancel_asked_at = ended_at FROM runs WHERE run_id = %s",
            (waiting.run_id,),
        ).fetchone()
        assert row == ("interrupted", reason, True)


async def test_a_run_that_ends_by_itself_has_no_reason(database_url, database, holder):
    settings = {"worker": {"run_timeout_seconds": 0.2}}
    holder.may_stop.set()
    async with open_states(database_url, {"holder": holder.graph}, count=1, **settings) as (here,):
        run = await start(here)
        outcome = await run.outcome(SECONDS)
        assert outcome is not None
        assert outcome.status == "timeout"
        row = database.execute("SELECT cancel_reason, cancel_asked_at FROM runs").fetchone()
        assert row == (None, None)
