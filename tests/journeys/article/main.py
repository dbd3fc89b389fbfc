"""A chat with a memory, as an article shows it: store, checkpointer, a factory, ``/chat``."""

import os
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.base import BaseStore
from langgraph.store.postgres.aio import AsyncPostgresStore
from pydantic import BaseModel

DB_URI = os.environ["DATABASE_URL"]


async def call_model(state: MessagesState, config: RunnableConfig, *, store: BaseStore):
    namespace = ("memories", config["configurable"]["user_id"])
    said = state["messages"][-1].content
    if said.startswith("remember "):
        await store.aput(namespace, said, {"data": said.removeprefix("remember ")})
    known = sorted(item.value["data"] for item in await store.asearch(namespace))
    turn = sum(message.type == "human" for message in state["messages"])
    return {"messages": [("ai", f"turn {turn}, known: {', '.join(known) or 'nothing'}")]}


def create_graph(store, checkpointer):
    builder = StateGraph(MessagesState)
    builder.add_node(call_model)
    builder.add_edge(START, "call_model")
    return builder.compile(store=store, checkpointer=checkpointer)


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with (
        AsyncPostgresStore.from_conn_string(DB_URI) as store,
        AsyncPostgresSaver.from_conn_string(DB_URI) as checkpointer,
    ):
        await store.setup()
        await checkpointer.setup()
        app.state.graph = create_graph(store, checkpointer)
        yield


app = FastAPI(lifespan=lifespan)


class ChatRequest(BaseModel):
    message: str
    thread_id: str
    user_id: str


@app.post("/chat")
async def chat(body: ChatRequest, request: Request):
    graph = request.app.state.graph
    config = {"configurable": {"thread_id": body.thread_id, "user_id": body.user_id}}
    result = await graph.ainvoke({"messages": [("user", body.message)]}, config)
    return {"reply": result["messages"][-1].content}
