"""A change of the state whose time is over, or whose connection is lost: not about its values."""

import asyncio
import operator
from typing import Annotated, Any, TypedDict

import psycopg
import pytest
from langgraph.graph import END, START, StateGraph

from headrace.auth.principal import ANONYMOUS
from headrace.errors import ThreadBusy
from headrace.lifecycle import Tasks
from headrace.states.schemas import StateUpdate
from headrace.threads.schemas import ThreadCreate
from headrace.unavailable_errors import DatabaseUnavailable, UpdateTooSlow
from tests.support.pair import open_states


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


def graph_with(route: Any) -> Any:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    builder.add_node("work", lambda state: {"log": ["work"]})
    builder.add_edge(START, "work")
    builder.add_conditional_edges("work", route, [END])
    return builder


async def change(url: str, route: Any, **groups: Any) -> None:
    async with open_states(url, {"late": graph_with(route)}, count=1, **groups) as (here,):
        body = ThreadCreate.model_validate(
            {
                "metadata": {"graph_id": "late"},
                "supersteps": [{"updates": [{"values": {"log": ["x"]}, "as_node": "__start__"}]}],
            }
        )
        made = await here.threads.create(ANONYMOUS, body)
        asked = StateUpdate.model_validate({"values": {"log": ["y"]}, "as_node": "work"})
        await here.states.update(ANONYMOUS, str(made.thread_id), asked)


@pytest.mark.parametrize("word", [AssertionError, TimeoutError, ValueError])
async def test_a_graph_that_raises_over_the_end_of_its_time_is_too_slow(database_url, word):
    async def route(state: State) -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise word("while it was cancelled") from None
        return END

    with pytest.raises(UpdateTooSlow):
        await change(database_url, route)


async def test_a_connection_that_is_lost_meanwhile_is_the_databases_trouble(database_url):
    async def route(state: State) -> str:
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
            await other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE state = 'idle in transaction' AND datname = current_database()"
            )
        return END

    with pytest.raises(DatabaseUnavailable):
        await change(database_url, route)


def locked_for(url: str, seconds: float) -> Any:
    """A node's edge: from now on nothing answers a new checkpoint, for a while."""
    asked: list[float] = []

    async def lock() -> None:
        async with await psycopg.AsyncConnection.connect(url) as other:
            await other.execute("LOCK TABLE checkpoints IN SHARE MODE")
            asked.append(seconds)
            await asyncio.sleep(seconds)

    tasks = Tasks()

    async def route(state: State) -> str:
        if state["log"] == ["x", "y"] and not asked:
            tasks.start(lock(), name="lock")
            while not asked:
                await asyncio.sleep(0.01)
        return END

    return route


async def test_a_change_goes_on_after_a_pause_of_the_database(database_url):
    requests = {"change_timeout_seconds": 0.6}
    await change(database_url, locked_for(database_url, 0.9), requests=requests)


async def test_who_waits_for_another_change_is_told_so_and_not_that_it_was_slow(database_url):
    async with open_states(database_url, {"late": graph_with(lambda state: END)}, count=1) as (
        here,
    ):
        body = ThreadCreate.model_validate({"metadata": {"graph_id": "late"}})
        made = await here.threads.create(ANONYMOUS, body)
        asked = StateUpdate.model_validate({"values": {"log": ["y"]}, "as_node": "__start__"})
        async with await psycopg.AsyncConnection.connect(database_url) as other:
            await other.execute("SELECT FROM threads FOR UPDATE")
            with pytest.raises(ThreadBusy, match="is being worked on"):
                await here.states.update(ANONYMOUS, str(made.thread_id), asked)


async def test_a_change_is_repeated_once_and_not_for_ever(database_url):
    requests = {"change_timeout_seconds": 0.6}
    with pytest.raises(UpdateTooSlow):
        await change(database_url, locked_for(database_url, 2.5), requests=requests)
