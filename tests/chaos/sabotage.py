"""The server under chaos; and, for proofs that the checker can fail, with a part of it taken out.

``CHAOS_WITHOUT`` names the part. The product has no such switch: this module patches the process
that it is loaded in, before the application is made.
"""

import os
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp

from headrace.checkpoints import fence
from headrace.checkpoints.upstream_saver import UpstreamSaver
from headrace.events.channel import Channel
from headrace.queue.slots import Slots
from headrace.server.app import create_app as create_real_app
from headrace.worker.handover import Handover
from headrace.worker.rescuer import Rescuer
from headrace.worker.worker import Worker


def without_fence() -> None:
    """Every token holds, and the process does not stop its runs by itself when it comes back: it
    goes on writing for runs that it has lost. By itself it is most often quicker than its graphs.
    """
    guard: Any = fence.Guard
    real = guard.arguments
    guard.arguments = lambda self, *_: real(self, (), ())
    Worker.drop_all = lambda self: None  # type: ignore[method-assign]


def without_rescuer() -> None:
    """Nobody looks after lost processes."""

    async def do_nothing(self: Any, *_: Any) -> None:
        return None

    rescuer: Any = Rescuer
    rescuer.sweep = rescuer.rescue_from_dead = do_nothing


def without_store_before_send() -> None:
    """Events of resumable runs go out at once, and are stored when that happens to be done."""
    channel: Any = Channel
    put = channel._put

    def send_then_put(self: Any, event: Any) -> None:
        if self.resumable:
            self._stored_id = event.event_id
            self._deliver(event)
        put(self, event)

    def note_stored(self: Any, batch: Any) -> None:
        self._on_stored(len(batch))

    channel._put = send_then_put
    channel._note_stored = note_stored


def without_handover() -> None:
    """A process that drains believes that nobody else serves, and refuses what comes."""
    handover: Any = Handover
    handover.is_served_elsewhere = lambda self, graph_id: False


def without_last_step() -> None:
    """What a step writes that ends while its process drains is not stored."""
    handover: Any = Handover
    saver: Any = UpstreamSaver
    must_leave, put, put_writes = handover.must_leave, saver.aput, saver.aput_writes
    leaving: set[str] = set()

    def note_leaving(self: Any, execution: Any) -> bool:
        leaves: bool = must_leave(self, execution)
        if leaves:
            leaving.add(execution.thread_id)
        return leaves

    def leaves(config: Any) -> bool:
        return config["configurable"]["thread_id"] in leaving

    async def put_unless_leaving(self: Any, config: Any, checkpoint: Any, *rest: Any) -> Any:
        if not leaves(config):
            return await put(self, config, checkpoint, *rest)
        return {"configurable": {**config["configurable"], "checkpoint_id": checkpoint["id"]}}

    async def put_writes_unless_leaving(self: Any, config: Any, *rest: Any) -> None:
        if not leaves(config):
            await put_writes(self, config, *rest)

    handover.must_leave = note_leaving
    saver.aput, saver.aput_writes = put_unless_leaving, put_writes_unless_leaving


def without_slots() -> None:
    """A cron moves on in a transaction of its own, some time after that of its run: here, never."""

    async def do_nothing(self: Any, connection: Any) -> None:
        return None

    slots: Any = Slots
    slots.move = do_nothing


PARTS: dict[str, Callable[[], None]] = {
    "fence": without_fence,
    "rescuer": without_rescuer,
    "store-before-send": without_store_before_send,
    "handover": without_handover,
    "last-step": without_last_step,
    "slots": without_slots,
}


def create_app() -> ASGIApp:
    if part := os.environ.get("CHAOS_WITHOUT"):
        PARTS[part]()
    return create_real_app()
