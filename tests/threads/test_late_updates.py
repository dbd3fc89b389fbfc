"""A change of the state whose time is over, or whose connection is lost: not about its values."""

import asyncio
import operator
from typing import Annotated, Any, TypedDict

import psycopg
import pytest
from langgraph.graph import END, START, StateGraph

from headrace.auth.principal import ANONYMOUS
from headrace.errors import DatabaseUnavailable, UpdateTooSlow
from headrace.states.schemas import StateUpdate
from headrace.threads.schemas import ThreadCreate
from tests.support.pair import open_states


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


def graph_with(route: Any) -> Any:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    builder.add_node("work", lambda state: {"log": ["work"]})
    builder.add_edge(START, "work")
    builder.add_conditional_edges("work", route, [END])
    return builder


async def change(url: str, route: Any) -> None:
    async with open_states(url, {"late": graph_with(route)}, count=1) as (here,):
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
