"""An app of a user's: routes, a middleware, a lifespan and an exception handler of its own."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

import headrace

#: What happened, in order.
JOURNAL: list[str] = []


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    JOURNAL.append("theirs up")
    yield {"cache": {"warm": True}}
    JOURNAL.append("theirs down")


app = FastAPI(lifespan=lifespan)


class Thread(BaseModel):
    """Has the name of one of the API's schemas."""

    colour: str = "blue"


class Teapot(Exception):
    pass


@app.middleware("http")
async def mark(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    if request.headers.get("x-stop"):
        return JSONResponse({"detail": "stopped by their middleware"}, 418)
    response = await call_next(request)
    response.headers["X-Theirs"] = "seen"
    return response


@app.exception_handler(Teapot)
async def teapot(request: Request, error: Exception) -> Response:
    return JSONResponse({"short": "and stout"}, 418)


@app.exception_handler(HTTPException)
async def not_here(request: Request, error: Exception) -> Response:
    return JSONResponse({"theirs": True}, 404)


@app.get("/hello")
async def hello(request: Request) -> dict[str, Any]:
    """A greeting."""
    return {"cache": request.state.cache, "journal": JOURNAL}


@app.get("/paint")
async def paint() -> Thread:
    return Thread()


@app.post("/ask/{number}")
async def ask(request: Request, number: int) -> Any:
    """Through the graph, without a run."""
    graph = headrace.graph(request, "workflow")
    config: Any = {"configurable": {"thread_id": f"theirs-{number}"}}
    return await graph.ainvoke({"number": number}, config)


@app.get("/teapot")
async def raise_teapot() -> None:
    raise Teapot


@app.get("/breaks")
async def breaks() -> None:
    raise RuntimeError("nobody foresaw this")


@app.get("/ok")
async def other_ok() -> dict[str, bool]:
    return {"ok": False}


@app.put("/threads")
async def other_threads() -> dict[str, bool]:
    return {"theirs": True}


@app.websocket("/socket")
async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


not_an_app = object()
