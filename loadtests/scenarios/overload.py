"""Clients that ask as fast as they are answered, and honour ``Retry-After``."""

import time
import uuid

from loadtests.common.api import Api, Refused, require


def overload(api: Api) -> None:
    """A short durable run on a thread of its own; a refusal is waited out."""
    thread_id = str(uuid.uuid4())
    body = {"assistant_id": "sleeper", "input": {"word": thread_id}, "if_not_exists": "create"}
    while True:
        try:
            api.ask(
                "POST",
                f"/threads/{thread_id}/runs/wait",
                body,
                name="/runs/wait",
                check=lambda values: require(values["said"], thread_id, "what was said"),
                may_refuse=True,
            )
        except Refused as refusal:
            time.sleep(refusal.seconds)
        else:
            return
