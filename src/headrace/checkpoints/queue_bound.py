"""A bound on queued operations and bytes. If it is reached, callers wait in order of arrival."""

import asyncio
from collections import deque


class QueueBound:
    """Counts operations that have entered and not left yet."""

    def __init__(self, *, max_operations: int, max_bytes: int) -> None:
        self._max_operations = max_operations
        self._max_bytes = max_bytes
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        #: How many callers were admitted, but were not resumed by the event loop yet. No other
        #: caller may enter before them.
        self._admitted = 0
        self.operations = 0
        self.bytes = 0

    @property
    def waiting(self) -> int:
        """How many callers wait to enter."""
        return sum(not turn.done() for turn, _ in self._waiting)

    async def enter(self, size_bytes: int) -> None:
        """Wait for room. An operation larger than the bound enters when there is no other one."""
        if not self._waiting and not self._admitted and self._fits(size_bytes):
            self._add(size_bytes)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, size_bytes))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                # This caller is skipped from now on. Callers behind it may have room.
                self._admit()
            else:
                self._admitted -= 1
                self.leave(size_bytes)
            raise
        self._admitted -= 1
        # Callers that came meanwhile may have room.
        self._admit()

    def leave(self, size_bytes: int) -> None:
        """Make room for others."""
        self.operations -= 1
        self.bytes -= size_bytes
        self._admit()

    def _admit(self) -> None:
        while self._waiting:
            turn, size_bytes = self._waiting[0]
            if not turn.done():
                if not self._fits(size_bytes):
                    return
                self._add(size_bytes)
                self._admitted += 1
                turn.set_result(None)
            self._waiting.popleft()

    def _add(self, size_bytes: int) -> None:
        self.operations += 1
        self.bytes += size_bytes

    def _fits(self, size_bytes: int) -> bool:
        return self.operations == 0 or (
            self.operations < self._max_operations and self.bytes + size_bytes <= self._max_bytes
        )
