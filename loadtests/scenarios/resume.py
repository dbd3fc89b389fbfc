"""Runs that stop to ask, and go on with the answer that a command brings."""

import uuid
from typing import Any

from loadtests.common.api import Api, require

_ORDERS = 2


def resume(api: Api) -> None:
    """Orders on one thread: each is stopped, looked at, answered, carried out."""
    thread_id = api.new_thread()
    for number in range(1, _ORDERS + 1):
        _order(api, thread_id, number)


def _order(api: Api, thread_id: str, number: int) -> None:
    order, answer = (uuid.uuid4().hex for _ in range(2))
    path = f"/threads/{thread_id}/runs/wait"

    def stopped(values: Any) -> None:
        (asked,) = values["__interrupt__"]
        require(asked["value"], {"approve": order}, "what the run asks")
        require(values.get("carried_out", 0), number - 1, "orders carried out so far")

    def waits(state: Any) -> None:
        require(state["next"], ["ask"], "what comes next")
        (task,) = state["tasks"]
        require(task["interrupts"][0]["value"], {"approve": order}, "what the thread waits for")

    def done(values: Any) -> None:
        require(values["done"], f"{order}: {answer}", "what was done")
        require(values["carried_out"], number, "orders carried out")

    api.ask(
        "POST",
        path,
        {"assistant_id": "approval", "input": {"order": order}},
        name="/runs/wait until asked",
        check=stopped,
    )
    api.ask("GET", f"/threads/{thread_id}/state", name="/threads/{id}/state asked", check=waits)
    api.ask(
        "POST",
        path,
        {"assistant_id": "approval", "command": {"resume": answer}},
        name="/runs/wait resumed",
        check=done,
    )
