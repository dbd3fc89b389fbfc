"""A lone run of the trivial graph: headrace's ``runs/wait`` beside the tutorial's server.

Both are one uvicorn process with the same HTTP library in front of one Postgres with its durability
on. The tutorial's server keeps no books: no runs, no threads, no leases. Requests alternate, one at
a time, so that whatever the machine does it does to both.

    python -m loadtests.lone_wait [pairs]
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request
from langchain_core.messages import AIMessage
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel

from loadtests.measuring.database import measured_database
from loadtests.measuring.servers import free_port

FLOOR, GOAL = 1.5, 1.0
_PAIRS = 400
_WARM_UP = 50
_MESSAGES = [{"role": "user", "content": "hi"}]


async def reply(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage("hello")]}


builder = StateGraph(MessagesState)
builder.add_node("reply", reply)
builder.add_edge(START, "reply")
builder.add_edge("reply", END)


class Question(BaseModel):
    """What the tutorial's server is asked."""

    thread_id: str
    messages: list[dict[str, str]]


def tutorial_app() -> FastAPI:
    """FastAPI with the saver as LangGraph's tutorial opens it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        url = os.environ["DATABASE_URL"]
        async with AsyncPostgresSaver.from_conn_string(url) as saver:
            yield {"graph": builder.compile(checkpointer=saver)}

    app = FastAPI(lifespan=lifespan)

    @app.post("/ask")
    async def ask(question: Question, request: Request) -> Any:
        config = {"configurable": {"thread_id": question.thread_id}}
        return await request.state.graph.ainvoke({"messages": question.messages}, config)

    return app


@contextmanager
def serving(command: list[str], port: int, environment: dict[str, str]) -> Iterator[HTTPConnection]:
    """A server process, and one connection to it."""
    with subprocess.Popen(  # noqa: S603 - our own command
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            _wait_for(port, server)
            connection = HTTPConnection("127.0.0.1", port, timeout=60)
            yield connection
            connection.close()
        finally:
            server.terminate()


def measure(pairs: int) -> dict[str, float]:
    """The p50 of both in milliseconds, and their ratio."""
    with ExitStack() as stack:
        database = stack.enter_context(measured_database(None))
        folder = Path(stack.enter_context(TemporaryDirectory()))
        ports = free_port(), free_port()
        environment = server_environment(database.url, folder, ports[0])
        headrace = stack.enter_context(
            serving([sys.executable, "-m", "headrace", "serve"], ports[0], environment)
        )
        uvicorn = [sys.executable, "-m", "uvicorn", "--factory", "loadtests.lone_wait:tutorial_app"]
        uvicorn += ["--port", str(ports[1]), "--no-access-log", "--log-level", "warning"]
        tutorial = stack.enter_context(serving(uvicorn, ports[1], environment))
        return _alternate(headrace, tutorial, pairs)


def server_environment(url: str, folder: Path, port: int) -> dict[str, str]:
    """For one process of headrace that serves the trivial graph; its manifest goes into folder."""
    manifest = folder / "langgraph.json"
    manifest.write_text(
        json.dumps({"dependencies": ["."], "graphs": {"trivial": f"{__file__}:builder"}})
    )
    kept = {name: value for name, value in os.environ.items() if "HEADRACE" not in name}
    return {
        **kept,
        "DATABASE_URL": url,
        "HEADRACE_CONFIG": str(manifest),
        "HEADRACE_PROCESSES": "1",
        "HEADRACE_PORT": str(port),
        "HEADRACE_OBSERVABILITY__LOG_LEVEL": "warning",
    }


def _alternate(headrace: HTTPConnection, tutorial: HTTPConnection, pairs: int) -> dict[str, float]:
    took: dict[str, list[float]] = {"headrace": [], "tutorial": []}

    def ask_headrace() -> None:
        thread_id = post(headrace, "/threads", {})["thread_id"]
        path = f"/threads/{thread_id}/runs/wait"
        body = {"assistant_id": "trivial", "input": {"messages": _MESSAGES}}
        took["headrace"].append(_timed(headrace, path, body))

    def ask_tutorial() -> None:
        body = {"thread_id": uuid4().hex, "messages": _MESSAGES}
        took["tutorial"].append(_timed(tutorial, "/ask", body))

    for number in range(_WARM_UP + pairs):
        both = (ask_headrace, ask_tutorial)
        for ask in both if number % 2 else reversed(both):
            ask()
    p50 = {name: statistics.median(values[_WARM_UP:]) * 1000 for name, values in took.items()}
    return {**p50, "ratio": p50["headrace"] / p50["tutorial"]}


def _timed(connection: HTTPConnection, path: str, body: dict[str, Any]) -> float:
    started = time.perf_counter()
    answer = post(connection, path, body)
    seconds = time.perf_counter() - started
    assert answer["messages"][-1]["content"] == "hello", answer
    return seconds


def post(connection: HTTPConnection, path: str, body: dict[str, Any]) -> Any:
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read()
    if response.status != 200:
        raise SystemExit(f"{path} answered {response.status}: {text.decode()}")
    return json.loads(text)


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < deadline:
        try:
            connection = HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/openapi.json")
            connection.getresponse().read()
            connection.close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("a server did not start")


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else _PAIRS
    found = measure(pairs)
    sys.stdout.write(f"a lone run of the trivial graph, {pairs} pairs, alternating\n")
    sys.stdout.write(f"  headrace runs/wait   p50 {found['headrace']:6.2f} ms\n")
    sys.stdout.write(f"  tutorial's server    p50 {found['tutorial']:6.2f} ms\n")
    verdict = "goal reached" if found["ratio"] <= GOAL else "within the floor"
    if found["ratio"] > FLOOR:
        verdict = "MISSED"
    sys.stdout.write(f"  ratio {found['ratio']:.2f}   floor {FLOOR}, goal {GOAL}: {verdict}\n")


if __name__ == "__main__":
    main()
