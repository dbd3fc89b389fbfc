"""What a server process holds in memory while several clients read a thread of images."""

import asyncio
import base64
from pathlib import Path

import httpx
import orjson
import pytest

from tests.support.live import live_server

pytestmark = pytest.mark.acceptance

MB = 1024 * 1024
TURNS = 3
READERS = 3


def peak_megabytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    raise AssertionError("no peak")


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def image(number: int) -> dict[str, object]:
    data = base64.b64encode(bytes([number]) * 5 * MB).decode()
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    return {"role": "user", "content": [{"type": "text", "text": f"turn {number}"}, url]}


async def conversation(http: httpx.AsyncClient) -> str:
    thread_id = str((await http.post("/threads", json={})).json()["thread_id"])
    for number in range(TURNS):
        body = {"assistant_id": "agent", "input": {"messages": [image(number)]}}
        answer = await http.post(f"/threads/{thread_id}/runs/wait", json=body)
        assert len(answer.json()["messages"]) == 2 * number + 2
    return thread_id


async def test_readers_of_images_take_turns_in_bounded_memory(database_url, tmp_path):
    with live_server(tmp_path, database_url) as server:
        pids = server.serving()
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
            thread_id = await conversation(http)

            async def read_all() -> list[int]:
                """The messages of each state, page by page."""
                found: list[int] = []
                query = {"limit": "50"}
                while True:
                    page = await http.get(f"/threads/{thread_id}/history", params=query)
                    assert page.status_code == 200
                    states = orjson.loads(page.content)
                    found += [len(state["values"].get("messages", ())) for state in states]
                    if "X-Pagination-Next" not in page.headers:
                        return found
                    query["before"] = page.headers["X-Pagination-Next"]

            for pid in pids:
                forget_peak(pid)
            read = await asyncio.gather(*(read_all() for _ in range(READERS)))
            # A turn makes three states: before its input, with it, with the reply.
            assert read == [[6, 5, 4, 4, 3, 2, 2, 1, 0]] * READERS
            assert max(map(peak_megabytes, pids)) < 500
