"""The graphs that the recorded exchanges were made with, said again: same names, same behaviour.

No model is called. ``agent`` answers at once, ``chat`` streams tokens, ``hitl`` waits for a person,
``boom`` fails, ``slow`` takes its time, ``nested`` and ``nested_hitl`` do it in a subgraph, ``ctx``
tells its configuration, ``tooler`` calls a tool.
"""

import asyncio
import operator
from typing import Annotated, Any, TypedDict

from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.runtime import Runtime
from langgraph.types import interrupt

Builder = StateGraph[Any, Any, Any, Any]


class Topic(TypedDict):
    topic: str
    answer: str
    log: Annotated[list[str], operator.add]


class Steps(TypedDict):
    n: Annotated[list[int], operator.add]
    secs: float


class Wishes(TypedDict, total=False):
    model_name: str


def chain(state: type, context: type | None = None, **nodes: Any) -> Builder:
    """The nodes one after another."""
    builder: Builder = StateGraph(state, context_schema=context)
    before = START
    for name, node in nodes.items():
        builder.add_node(name, node)
        builder.add_edge(before, name)
        before = name
    builder.add_edge(before, END)
    return builder


async def reply(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage("Always the same answer.")]}


def speaking(text: str, *, announced: bool = False) -> Any:
    """A node whose model says ``text``, a letter at a time."""

    async def node(state: MessagesState) -> dict[str, Any]:
        if announced:
            get_stream_writer()({"inner": True})
        said = await FakeListChatModel(responses=[text]).ainvoke(state["messages"])
        return {"messages": [said]}

    return node


async def ask(state: Topic) -> dict[str, Any]:
    answer = interrupt({"question": f"approve {state['topic']}?"})
    return {"answer": str(answer), "log": ["asked"]}


async def done(state: Topic) -> dict[str, Any]:
    return {"log": [f"done:{state['answer']}"]}


async def fail(state: Topic) -> dict[str, Any]:
    raise ValueError("kaboom in node")


def step(number: int) -> Any:
    async def node(state: Steps) -> dict[str, Any]:
        get_stream_writer()({"step": number})
        await asyncio.sleep(state.get("secs") or 1.0)
        return {"n": [number]}

    return node


async def inner_ask(state: Topic) -> dict[str, Any]:
    return {"answer": str(interrupt({"inner": "ok?"})), "log": ["inner"]}


async def tell(state: Topic, runtime: Runtime[Wishes], config: RunnableConfig) -> dict[str, Any]:
    keys = sorted(config.get("configurable", {}))
    return {"log": [repr(keys), repr(runtime.context), repr(config.get("metadata"))]}


@tool
def add(a: int, b: int) -> int:
    """The sum of two numbers."""
    return a + b


async def choose(state: MessagesState) -> dict[str, Any]:
    if any(message.type == "tool" for message in state["messages"]):
        return {"messages": [AIMessage("5")]}
    call = {"id": "call_1", "name": "add", "args": {"a": 2, "b": 3}}
    return {"messages": [AIMessage("", tool_calls=[call])]}


def make_tooler() -> Builder:
    builder: Builder = StateGraph(MessagesState)
    builder.add_node("model", choose)
    builder.add_node("tools", ToolNode([add]))
    builder.add_edge(START, "model")
    builder.add_conditional_edges(
        "model",
        lambda state: "tools" if state["messages"][-1].tool_calls else END,
        ["tools", END],
    )
    builder.add_edge("tools", "model")
    return builder


agent = chain(MessagesState, reply=reply)
chat = chain(MessagesState, model=speaking("Hi yo"))
hitl = chain(Topic, ask=ask, done=done)
boom = chain(Topic, boom=fail)
slow = chain(Steps, **{f"s{number}": step(number) for number in range(3)})
nested = chain(
    MessagesState, child=chain(MessagesState, inner=speaking("ab", announced=True)).compile()
)
nested_hitl = chain(Topic, child=chain(Topic, inner_ask=inner_ask).compile())
ctx = chain(Topic, Wishes, ctxnode=tell)
tooler = make_tooler()
