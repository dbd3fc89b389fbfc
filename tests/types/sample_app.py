"""An app of a user's, as mypy --strict sees it. Lines that must be errors say which."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Request, WebSocket
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore
from sqlalchemy.ext.asyncio import AsyncSession

import headrace
from headrace.testing import client

Graph = Pregel[Any, Any, Any, Any]


async def reply(state: MessagesState) -> dict[str, list[Any]]:
    return {"messages": []}


def make_graph(checkpointer: BaseCheckpointSaver[str], store: BaseStore) -> Graph:
    builder = StateGraph(MessagesState)
    builder.add_node(reply)
    builder.add_edge(START, "reply")
    return builder.compile(checkpointer=checkpointer, store=store)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
    async with headrace.lifespan(graphs={"agent": make_graph})(app) as state:
        runtime: headrace.Runtime = headrace.Runtime.of(state)
        yield {**state, "runtime": runtime}


async def signed_in(request: Request) -> None: ...


app = FastAPI(lifespan=lifespan)
plain = FastAPI(lifespan=headrace.lifespan(graphs={"agent": make_graph}))
app.include_router(headrace.router, prefix="/agents", dependencies=[Depends(signed_in)])
app.add_middleware(headrace.Middleware)
router: APIRouter = headrace.router
routes = [route.name for route in headrace.router.routes if hasattr(route, "name")]


@app.post("/chat")
async def chat(request: Request, tasks: BackgroundTasks) -> dict[str, Any]:
    graph: Graph = headrace.graph(request, "agent")
    config: RunnableConfig = {"configurable": {"thread_id": "1"}}
    tasks.add_task(graph.ainvoke, {"messages": []}, config)
    async with headrace.Runtime.of(request).pool.connection() as connection:
        await connection.execute("SELECT 1")
    async with AsyncSession(headrace.Runtime.of(request).engine) as session:
        await session.commit()
    result: dict[str, Any] = await graph.ainvoke({"messages": []}, config)
    return result


@app.websocket("/socket")
async def socket(websocket: WebSocket) -> None:
    async for _ in headrace.graph(websocket, "agent").astream({"messages": []}):
        await websocket.send_text("step")


async def script() -> None:
    settings = headrace.Settings(chat_graph="agent", database={"pool_max": 5})
    async with headrace.lifespan(graphs={"agent": make_graph}, settings=settings) as runtime:
        await runtime.graph("agent").ainvoke({"messages": []})
        await runtime.store.aput(("notes",), "a", {"text": "b"})
    async with client(app) as asking:
        await asking.get("/ok")
    version: str = headrace.__version__
    print(version)


def mistakes(request: Request) -> None:
    headrace.grph(request, "agent")  # error: attr-defined
    headrace.graph("agent", "agent")  # error: arg-type
    headrace.graph(request, 1)  # error: arg-type
    headrace.router.add(1)  # error: attr-defined
    headrace.lifespan(graph={})  # error: call-arg
    headrace.Runtime.of(request).pol  # error: attr-defined
    number: int = headrace.graph(request, "agent")  # error: assignment
    print(number)
