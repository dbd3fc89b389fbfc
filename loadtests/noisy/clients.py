"""What both tenants do."""

import asyncio
import random
import time
import uuid

from loadtests.measuring.client import Visitor
from loadtests.measuring.http_stream import request

RUN = "run"
#: Of the noisy tenant; more of them would measure connections.
CONNECTIONS = 16


async def at_random(visitor: Visitor, key: str, seconds: float) -> None:
    """A short run every ``seconds`` on average; late answers move the next ones, but lose none.

    The pauses are random (exponential). Two tenants at steady paces meet at every request or at
    none, as their beginnings happen to fall, for a whole phase.
    """
    await visitor.begin()
    pauses = random.Random(f"{key}:{visitor.number}")
    due = time.perf_counter()
    while True:
        due += pauses.expovariate(1 / seconds)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        body = {"assistant_id": "sleeper", "input": {"word": str(uuid.uuid4())}}
        await visitor.ask(request("POST", "/runs/wait", body, headers={"x-api-key": key}), RUN)
