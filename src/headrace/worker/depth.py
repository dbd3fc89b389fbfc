"""How long the queue is: looked at by one process of each pod, now and then."""

import asyncio
import os

import structlog

from headrace.errors import Unavailable
from headrace.observability.slots import StatusBoard
from headrace.runs.queue import Queue, QueueFigures

_log = structlog.stdlib.get_logger("headrace.queue")

_LOOK_SECONDS = 10.0


class QueueDepth:
    """The process with the least pid looks; the others know nothing."""

    def __init__(self, queue: Queue, board: StatusBoard) -> None:
        self._queue = queue
        self._board = board
        self.figures: QueueFigures | None = None

    async def look_forever(self) -> None:
        while True:
            try:
                await self.look()
            except Unavailable as fault:
                self.figures = None
                _log.warning("queue_not_measured", cause=fault.code)
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        leads = all(os.getpid() < slot.pid for slot in self._board.others())
        self.figures = await self._queue.figures() if leads else None
