"""/chat on graphs of the user's own: questions, context, and graphs that it cannot serve."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
import pytest_asyncio

from headrace.edge.gates import RequestGates
from headrace.server.app import create_app
from tests.support.apps import app_client, settings_for, started
from tests.support.waiting import eventually

GRAPHS = """
import operator
from dataclasses import dataclass
from typing import Annotated, TypedDict

from langchain_core.messages import AIMessage, ToolMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt


@dataclass
class Context:
    tone: str = "plain"
    user_id: str = "nobody"


class Loose(TypedDict):
    messages: Annotated[list, operator.add]


class Topic(TypedDict, total=False):
    topic: str
    answer: str


def call(state):
    calls = [{"name": "mail", "args": {"to": "bob"}, "id": "c1"}]
    return {"messages": [AIMessage("", tool_calls=calls)]}


def approve(state):
    answer = interrupt({"question": "Send it?"})
    return {"messages": [ToolMessage(str(answer), tool_call_id="c1"), AIMessage(f"Done: {answer}")]}


def ask_a(state):
    return {"messages": [AIMessage(f"a={interrupt('a?')}")]}


def ask_b(state):
    return {"messages": [AIMessage(f"b={interrupt('b?')}")]}


def parts(state):
    said = [{"type": "text", "text": "Two "}, {"type": "text", "text": "parts"}]
    return {"messages": [AIMessage(said)]}


def tool_last(state):
    calls = [{"name": "t", "args": {}, "id": "c1"}]
    said = ToolMessage("from the tool", tool_call_id="c1")
    return {"messages": [AIMessage("", tool_calls=calls), said]}


def call_last(state):
    return {"messages": [AIMessage("", tool_calls=[{"name": "t", "args": {}, "id": "c1"}])]}


def loose(state):
    return {"messages": [{"role": "assistant", "content": "as a dictionary"}]}


def tone(state, runtime):
    context = runtime.context
    return {"messages": [AIMessage(f"{context.tone} {context.user_id}")]}


def nothing(state):
    return {}


def fails(state):
    raise ValueError("kaboom in node")


def topic(state):
    return {"answer": state["topic"]}


def line(schema, *nodes, context=None):
    builder = StateGraph(schema, context_schema=context)
    for one in nodes:
        builder.add_node(one.__name__, one)
    names = [one.__name__ for one in nodes]
    for before, after in zip((START, *names), (*names, END)):
        builder.add_edge(before, after)
    return builder


from langgraph.runtime import Runtime
tone.__annotations__["runtime"] = Runtime[Context]

hitl = line(MessagesState, call, approve)
both = StateGraph(MessagesState)
for node in (ask_a, ask_b):
    both.add_node(node.__name__, node)
    both.add_edge(START, node.__name__)
    both.add_edge(node.__name__, END)
parts_graph = line(MessagesState, parts)
tool_last_graph = line(MessagesState, tool_last)
call_last_graph = line(MessagesState, call_last)
nothing_graph = line(MessagesState, nothing)
loose_graph = line(Loose, loose)
tone_graph = line(MessagesState, tone, context=Context)
topic_graph = line(Topic, topic)
fails_graph = line(MessagesState, fails)
"""
NAMES = {
    "hitl": "hitl",
    "both": "both",
    "parts": "parts_graph",
    "tool_last": "tool_last_graph",
    "call_last": "call_last_graph",
    "nothing": "nothing_graph",
    "loose": "loose_graph",
    "tone": "tone_graph",
    "topic": "topic_graph",
    "fails": "fails_graph",
}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(module_database, tmp_path_factory):
    """A started app, and a way to say which graph is behind /chat."""
    folder = tmp_path_factory.mktemp("chat")
    (folder / "graphs.py").write_text(GRAPHS)
    manifest = folder / "langgraph.json"
    graphs = {name: f"./graphs.py:{variable}" for name, variable in NAMES.items()}
    manifest.write_text(json.dumps({"graphs": graphs}))
    async with AsyncExitStack() as stack:
        started: dict[str, httpx.AsyncClient] = {}

        @asynccontextmanager
        async def client_of(graph: str) -> AsyncIterator[httpx.AsyncClient]:
            if graph not in started:
                settings = settings_for(module_database, manifest, chat_graph=graph)
                started[graph] = await stack.enter_async_context(app_client(settings))
            yield started[graph]

        yield client_of


def events(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.split("\r\n\r\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\r\n") if ": " in line)
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


async def test_a_question_is_told_and_answered(server):
    async with server("hitl") as client:
        asked = (await client.post("/chat", json={"message": "mail bob"})).json()
        assert asked["reply"] is None
        (question,) = asked["interrupts"]
        assert question["value"] == {"question": "Send it?"}
        body = {"thread_id": asked["thread_id"], "resume": "yes"}
        done = (await client.post("/chat", json=body)).json()
        assert (done["reply"], done["interrupts"]) == ("Done: yes", [])
        assert [one["type"] for one in done["messages"]] == ["human", "ai", "tool", "ai"]
        # Nothing is asked any more.
        again = await client.post("/chat", json=body)
        assert again.status_code == 422
        assert "waits for no answer" in again.json()["detail"]


async def test_a_false_answer_is_an_answer(server):
    async with server("hitl") as client:
        asked = (await client.post("/chat", json={"message": "mail bob"})).json()
        body = {"thread_id": asked["thread_id"], "resume": False}
        assert (await client.post("/chat", json=body)).json()["reply"] == "Done: False"


async def test_several_questions_are_answered_at_once(server):
    async with server("both") as client:
        asked = (await client.post("/chat", json={"message": "hi"})).json()
        questions = {one["value"]: one["id"] for one in asked["interrupts"]}
        assert "a?" in questions or "b?" in questions
        state = (await client.get(f"/threads/{asked['thread_id']}/state")).json()
        ids = {one["value"]: one["id"] for one in state["interrupts"]}
        assert set(ids) == {"a?", "b?"}
        answers = {ids["a?"]: 1, ids["b?"]: 2}
        body = {"thread_id": asked["thread_id"], "resume": answers}
        done = (await client.post("/chat", json=body)).json()
        assert {one["content"] for one in done["messages"][1:]} == {"a=1", "b=2"}


async def test_a_stream_tells_the_question_and_takes_the_answer(server):
    async with server("hitl") as client:
        body = {"message": "mail bob", "thread_id": "streamed"}
        told = events((await client.post("/chat/stream", json=body)).text)
        names = [name for name, _ in told]
        assert names[0] == "metadata"
        assert names[-2:] == ["interrupts", "end"]
        assert set(names) <= {"metadata", "messages", "interrupts", "end"}
        assert told[-2][1][0]["value"] == {"question": "Send it?"}
        body = {"resume": "go", "thread_id": "streamed"}
        told = events((await client.post("/chat/stream", json=body)).text)
        assert any(name == "messages" and data[0]["content"] == "Done: go" for name, data in told)
        assert "interrupts" not in [name for name, _ in told]


@pytest.mark.parametrize(
    ("graph", "reply"),
    [
        ("parts", "Two parts"),
        ("tool_last", "from the tool"),
        ("call_last", None),
        ("nothing", None),
        ("loose", "as a dictionary"),
    ],
)
async def test_the_reply_is_what_the_graph_said_last(server, graph, reply):
    async with server(graph) as client:
        answer = await client.post("/chat", json={"message": "hi"})
        assert answer.status_code == 200
        assert answer.json()["reply"] == reply
        assert answer.json()["messages"][0]["content"] == "hi"


async def test_the_context_reaches_the_graph_beside_the_user(server):
    async with server("tone") as client:
        body = {"message": "hi", "context": {"tone": "warm"}, "user_id": "ada"}
        assert (await client.post("/chat", json=body)).json()["reply"] == "warm ada"
        body = {"message": "hi", "context": {"tone": "warm"}}
        assert (await client.post("/chat", json=body)).json()["reply"] == "warm nobody"


@pytest.mark.parametrize("route", ["/chat", "/chat/stream"])
async def test_a_graph_without_messages_is_refused_before_it_runs(server, route):
    async with server("topic") as client:
        answer = await client.post(route, json={"message": "hi", "thread_id": "never-made"})
        assert answer.status_code == 422
        detail = answer.json()["detail"]
        assert "'topic' takes topic, answer and no messages" in detail
        assert "POST /runs/wait" in detail
        assert (await client.get("/threads/never-made")).status_code in (404, 422)


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ({"message": "hi", "thread_id": "user/7"}, "slash"),
        ({"message": "hi", "thread_id": ".."}, "'..'"),
        ({"message": "hi", "resume": 1, "thread_id": "t"}, "either message or resume"),
        ({}, "either message or resume"),
        ({"resume": 1}, "thread_id"),
        ({"message": ""}, "message"),
        ({"message": "hi", "context": [1]}, "context"),
    ],
)
async def test_what_cannot_be_said_is_refused_with_a_sentence(server, body, hint):
    async with server("hitl") as client:
        for route in ("/chat", "/chat/stream"):
            answer = await client.post(route, json=body)
            assert answer.status_code == 422
            assert hint in answer.json()["detail"]


async def test_there_is_no_answer_to_a_thread_that_is_not_there(server):
    async with server("hitl") as client:
        body = {"resume": 1, "thread_id": "not-there"}
        assert (await client.post("/chat", json=body)).status_code == 404


async def test_a_graph_that_fails_is_said_to_have_failed(server):
    async with server("fails") as client:
        response = await client.post("/chat", json={"message": "hi"})
        assert response.status_code == 500
        assert response.json() == {"detail": "ValueError: kaboom in node", "code": "run_failed"}
        told = events((await client.post("/chat/stream", json={"message": "hi"})).text)
        assert told[-1] == ("error", {"error": "ValueError", "message": "kaboom in node"})


LONG = """
import asyncio
from langgraph.graph import END, START, MessagesState, StateGraph

async def think(state):
    await asyncio.sleep(3600)

chat = StateGraph(MessagesState)
chat.add_node("think", think)
chat.add_edge(START, "think")
chat.add_edge("think", END)
"""


async def test_a_client_that_leaves_before_the_reply_keeps_no_place(database_url, tmp_path):
    (tmp_path / "long.py").write_text(LONG)
    manifest = tmp_path / "langgraph.json"
    manifest.write_text(json.dumps({"graphs": {"chat": "./long.py:chat"}, "dependencies": ["."]}))
    inner, seen = create_app(settings_for(database_url, manifest)), {}

    async def tapped(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            seen["state"] = scope["state"]["headrace"]
        await inner(scope, receive, send)

    said, left, sent = [b'{"message": "hello"}'], asyncio.Event(), []

    async def receive() -> dict[str, Any]:
        if said:
            return {"type": "http.request", "body": said.pop(), "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    def held() -> int:
        return seen["state"].get(RequestGates).figures()["answers"].held if seen else 0

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/chat",
        "raw_path": b"/chat",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
    }
    async with started(tapped) as app:
        asking: asyncio.Future[None] = asyncio.ensure_future(app(scope, receive, send))
        await eventually(lambda: held() == 1)
        left.set()
        async with asyncio.timeout(5):
            await asking
        assert held() == 0
    # The run goes on without its client.
    assert sent[0]["status"] == 499
