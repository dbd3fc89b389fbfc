"""A bound on what may be queued, in operations and bytes; full means wait, in order of arrival."""

import asyncio
from collections import deque


class QueueBound:
    """Counts what has entered and not left yet."""

    def __init__(self, *, max_operations: int, max_bytes: int) -> None:
        self._max_operations = max_operations
        self._max_bytes = max_bytes
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        #: Let in, but not yet resumed by the event loop; nobody may slip in before them.
        self._admitted = 0
        self.operations = 0
        self.bytes = 0

    @property
    def waiting(self) -> int:
        """How many wait to enter."""
        return sum(not turn.done() for turn, _ in self._waiting)

    async def enter(self, size_bytes: int) -> None:
        """Wait for room. Something larger than the whole bound enters when nothing else is in."""
        if not self._waiting and not self._admitted and self._fits(size_bytes):
            self._add(size_bytes)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, size_bytes))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                # Those behind it may fit; it is passed over from now on.
                self._admit()
            else:
                self._admitted -= 1
                self.leave(size_bytes)
            raise
        self._admitted -= 1
        # Those that came while it was let in, and would fit.
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
