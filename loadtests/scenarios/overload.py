"""Clients that ask as fast as they are answered; their profile waits refusals out."""

import uuid

from loadtests.common.api import Api, require


def overload(api: Api) -> None:
    """A short durable run on a thread of its own."""
    thread_id = str(uuid.uuid4())
    api.ask(
        "POST",
        f"/threads/{thread_id}/runs/wait",
        {"assistant_id": "sleeper", "input": {"word": thread_id}, "if_not_exists": "create"},
        name="/runs/wait",
        check=lambda values: require(values["said"], thread_id, "what was said"),
    )
