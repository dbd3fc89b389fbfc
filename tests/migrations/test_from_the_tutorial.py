"""The tutorial's own saver wrote the first three turns; headrace takes the fourth."""

import httpx
import psycopg
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import START, MessagesState, StateGraph

from tests.migrations.commands import run_headrace
from tests.support.live import live_server

pytestmark = pytest.mark.acceptance


async def reply(state: MessagesState):
    return {"messages": [AIMessage(f"message {len(state['messages'])}")]}


async def three_turns(database_url: str) -> list[str]:
    """The tutorial's lifespan and endpoint; what it answered each time."""
    builder = StateGraph(MessagesState)
    builder.add_node("reply", reply)
    builder.add_edge(START, "reply")
    async with AsyncPostgresSaver.from_conn_string(database_url) as checkpointer:
        await checkpointer.setup()
        graph = builder.compile(checkpointer=checkpointer)
        answers = []
        for turn in range(3):
            result = await graph.ainvoke(
                {"messages": [HumanMessage(f"turn {turn}")]}, {"configurable": {"thread_id": "1"}}
            )
            answers.append(result["messages"][-1].content)
    return answers


async def test_the_fourth_turn_remembers_the_tutorials_three(tmp_path, empty_database_url):
    assert await three_turns(empty_database_url) == ["message 1", "message 3", "message 5"]
    for command, said in (("upgrade", "schema 0"), ("adopt", "1 threads adopted")):
        answer = run_headrace("db", command, database_url=empty_database_url)
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout.startswith(said)
    with live_server(tmp_path, empty_database_url, HEADRACE_CHAT_GRAPH="agent") as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=20) as client:
            thread = (await client.get("/threads/1")).raise_for_status().json()
            state = (await client.get("/threads/1/state")).raise_for_status().json()
            body = {"message": "turn 3", "thread_id": "1"}
            answer = (await client.post("/chat", json=body)).raise_for_status().json()
            after = (await client.get("/threads/1/state")).raise_for_status().json()
    assert thread["thread_id"] == "1"
    assert thread["status"] == "idle"
    assert len(state["values"]["messages"]) == 6
    assert thread["created_at"] < thread["updated_at"]
    assert answer["reply"] == "message 7"
    assert [message["content"] for message in after["values"]["messages"]] == [
        text for turn in range(4) for text in (f"turn {turn}", f"message {2 * turn + 1}")
    ]
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT count(*) FROM threads").fetchone() == (1,)
