"""Threads with large states: what a server process holds in memory while they are read."""

import asyncio
import base64
import os
import time
from pathlib import Path

import httpx
import pytest

from tests.support.live import live_server

pytestmark = pytest.mark.acceptance

MB = 1024 * 1024


def rss(pid: int, field: str = "VmRSS") -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) // 1024
    raise AssertionError(field)


def image(size: int, number: int) -> dict:
    data = base64.b64encode(os.urandom(1024) * (size // 1024)).decode()
    return {
        "role": "user",
        "content": [
            {"type": "text", "text": f"turn {number}"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        ],
    }


async def test_three_readers(database_url, tmp_path):
    turns = int(os.environ.get("TURNS", "10"))
    with live_server(tmp_path, database_url) as server:
        pids = server.serving()
        print("start", [rss(p) for p in pids])
        async with httpx.AsyncClient(base_url=server.url, timeout=120) as http:
            thread = (await http.post("/threads", json={})).json()["thread_id"]
            for n in range(turns):
                began = time.monotonic()
                answer = await http.post(
                    f"/threads/{thread}/runs",
                    json={"assistant_id": "agent", "input": {"messages": [image(5 * MB, n)]}},
                )
                run = answer.json()["run_id"]
                for _ in range(200):
                    row = (await http.get(f"/threads/{thread}/runs/{run}")).json()
                    if row["status"] not in ("running", "pending"):
                        break
                    await asyncio.sleep(0.05)
                print(n, row["status"], round(time.monotonic() - began, 2), [rss(p) for p in pids])

            async def read():
                total = 0
                try:
                    async with http.stream(
                        "GET", f"/threads/{thread}/history", params={"limit": 50}
                    ) as r:
                        async for chunk in r.aiter_bytes():
                            total += len(chunk)
                        return r.status_code, total // MB, dict(r.headers).get("x-pagination-next")
                except httpx.HTTPError as error:
                    return repr(error), total // MB

            began = time.monotonic()
            print(await asyncio.gather(*(read() for _ in range(3))), time.monotonic() - began)
            print("peak", [rss(p, "VmHWM") for p in pids], "now", [rss(p) for p in pids])
            r = await http.get(f"/threads/{thread}/state")
            print(
                "state",
                r.status_code,
                len(r.content) // MB,
                r.text[:200] if r.status_code > 200 else "",
            )
            print("peak", [rss(p, "VmHWM") for p in pids], "now", [rss(p) for p in pids])
