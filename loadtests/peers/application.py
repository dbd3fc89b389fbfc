"""A small, honest FastAPI server around a compiled graph, as people write it for themselves.

It keeps what its checkpoint saver keeps, and no books: no runs, no threads, no leases, no events
that a client could read again. Paths are those of LangGraph's server, so that one client asks all.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import uuid4

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from pydantic import BaseModel

from loadtests.peers.graphs import steady, trivial

_GRAPHS = {"trivial": trivial, "steady": steady}

#: Opens a saver, or nothing for a server that forgets.
Opened = Callable[[], AbstractAsyncContextManager[BaseCheckpointSaver[Any] | None]]


class RunAsked(BaseModel):
    """What a client sends; further fields are those of LangGraph's server."""

    assistant_id: str
    input: dict[str, Any]


def application(opened: Opened) -> FastAPI:
    """:param opened: the saver of each process, open as long as it serves."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with opened() as saver:
            yield {
                "graphs": {
                    name: graph.copy({"checkpointer": saver}) for name, graph in _GRAPHS.items()
                }
            }

    app = FastAPI(lifespan=lifespan)

    @app.post("/threads/{thread_id}/runs/wait")
    async def wait(thread_id: str, asked: RunAsked, request: Request) -> Any:
        graph = request.state.graphs[asked.assistant_id]
        return await graph.ainvoke(asked.input, _config(thread_id))

    @app.post("/threads/{thread_id}/runs/stream")
    async def stream(thread_id: str, asked: RunAsked, request: Request) -> StreamingResponse:
        graph = request.state.graphs[asked.assistant_id]
        values = graph.astream(asked.input, _config(thread_id), stream_mode="values")
        return StreamingResponse(_events(values), media_type="text/event-stream")

    @app.get("/threads/{thread_id}/state")
    async def state(thread_id: str, request: Request) -> Any:
        snapshot = await request.state.graphs["trivial"].aget_state(_config(thread_id))
        return {
            "values": snapshot.values,
            "next": snapshot.next,
            "config": snapshot.config,
            "metadata": snapshot.metadata,
            "created_at": snapshot.created_at,
        }

    @app.post("/threads")
    async def thread() -> dict[str, Any]:
        """Nothing is stored: the bound for those that store."""
        return {"thread_id": str(uuid4()), "status": "idle", "metadata": {}, "values": None}

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    return app


def _config(thread_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id}}


async def _events(values: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    async for one in values:
        yield b"event: values\ndata: %b\n\n" % orjson.dumps(one, default=_plain)
    yield b"event: end\ndata: null\n\n"


def _plain(value: Any) -> Any:
    """What orjson does not know; the messages of LangChain are models of pydantic."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    raise TypeError
