"""What the clients of an overload do."""

import time
import uuid

from loadtests.measuring.client import Visitor
from loadtests.measuring.http_stream import request

RUN = "run"
LIVEZ = "livez"


async def short_runs(visitor: Visitor) -> None:
    """Runs on new threads, one after the other; every answer is checked."""
    await visitor.begin()
    began = time.perf_counter()
    while True:
        thread_id = str(uuid.uuid4())
        body = {
            "assistant_id": "sleeper",
            "input": {"word": thread_id},
            "if_not_exists": "create",
        }
        reply = await visitor.ask(request("POST", f"/threads/{thread_id}/runs/wait", body), RUN)
        now = time.perf_counter() - began
        if reply.status != 200:
            visitor.outcome.note(f"refused without Retry-After: {reply.status}", now)
        elif reply.json().get("said") == thread_id:
            visitor.outcome.note("accepted", now)
            visitor.outcome.note("seconds", reply.seconds)
        else:
            visitor.outcome.note("wrong answer", now)


async def probes(visitor: Visitor) -> None:
    """``/livez`` on a new connection each time, with the time to connect."""
    await visitor.begin()
    data = request("GET", "/livez", headers={"Connection": "close"})
    while True:
        visitor.close()
        began = time.perf_counter()
        reply = await visitor.ask(data, LIVEZ)
        visitor.outcome.note("livez", (time.perf_counter() - began) * 1000)
        if reply.status != 200:
            visitor.outcome.note("livez failed", reply.status)
