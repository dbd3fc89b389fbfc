"""The ceiling: the agent of ``graph.py`` in a FastAPI app that streams it, and does nothing else.

No saver, no runs, no events to come back to. ``make_app`` has the two routes that the agents ask,
and sends the frames that they read, as a developer writes it in an hour.
"""

from collections.abc import AsyncIterator
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from loadtests.agents.graph import builder


def make_app() -> FastAPI:
    """For ``uvicorn --factory``."""
    app = FastAPI()
    graph = builder.compile()

    @app.post("/threads")
    async def create_thread(body: dict[str, Any]) -> dict[str, Any]:
        return {"thread_id": body["thread_id"]}

    @app.post("/threads/{thread_id}/runs/stream")
    async def stream_run(thread_id: str, body: dict[str, Any]) -> StreamingResponse:
        config = {"configurable": {"thread_id": thread_id}}
        parts = graph.astream(body["input"], config, stream_mode=["messages", "values"])  # type: ignore[call-overload]
        return StreamingResponse(_frames(parts), media_type="text/event-stream")

    return app


async def _frames(parts: AsyncIterator[tuple[str, Any]]) -> AsyncIterator[bytes]:
    async for mode, value in parts:
        data = orjson.dumps(value, default=_plain)
        yield b"event: %b\r\ndata: %b\r\n\r\n" % (mode.encode(), data)
    yield b'event: end\r\ndata: {"status":"success"}\r\n\r\n'


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    raise TypeError
