"""Runs on threads of their own, and what is told of them."""

import json
from typing import Any

import httpx


async def new_thread(client: httpx.AsyncClient, **body: Any) -> str:
    made = await client.post("/threads", json=body)
    thread_id: str = made.json()["thread_id"]
    return thread_id


async def wait(client: httpx.AsyncClient, thread_id: str, graph: str, **body: Any) -> Any:
    answer = await client.post(
        f"/threads/{thread_id}/runs/wait", json={"assistant_id": graph, **body}
    )
    assert answer.status_code == 200
    return answer.json()


async def events(
    client: httpx.AsyncClient, thread_id: str, graph: str, **body: Any
) -> list[tuple[str, Any]]:
    """Names and data of all events but ``metadata`` and ``end``."""
    answer = await client.post(
        f"/threads/{thread_id}/runs/stream", json={"assistant_id": graph, **body}
    )
    frames = [frame.split("\r\n") for frame in answer.text.split("\r\n\r\n") if "data: " in frame]
    told = [
        (frame[0].removeprefix("event: "), json.loads(frame[1].removeprefix("data: ")))
        for frame in frames
    ]
    return [event for event in told if event[0] not in ("metadata", "end")]


async def get(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def run_of(client: httpx.AsyncClient, thread_id: str) -> str:
    """The thread's latest run."""
    run_id: str = (await get(client, f"/threads/{thread_id}/runs"))[0]["run_id"]
    return run_id
