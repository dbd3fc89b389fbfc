"""The memory of a process for large request bodies, which callers share.

A body counts with the bytes that have arrived, not with the length that it announces. While there
is no memory for more, headrace does not read on, and TCP makes the client wait. Before a body is
parsed, memory for its values is taken too. Small bodies are not counted and never wait.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count

import structlog

from headrace.observability.figures import MemoryFigures
from headrace.shares import Places, Room, Share
from headrace.unavailable_errors import BodiesFull

_log = structlog.stdlib.get_logger("headrace.bodies")

#: Bodies up to this size do not count. Larger ones take memory in pieces of this size.
PIECE_BYTES = 64 * 1024
#: The memory of one parsed value, at most: that of an object with one short key.
_VALUE_BYTES = 224
#: Bytes per character of a text that has one character above U+FFFF.
_WIDEST_CHARACTER = 4
#: While bodies wait, the memory looks for stalled bodies this often.
_LOOK_SECONDS = 0.5


class BodyMemory:
    """One per process.

    The oldest incomplete body of each caller may exceed the bound, by its own size at most. So one
    body can always be completed, however many are half received. While others wait, a body that has
    brought no piece for ``wait_seconds`` is refused.

    :param total_bytes: for the bytes of bodies, and as many again for their parsed values.
    :param wait_seconds: how long one body may wait in all while it arrives, and again before it is
        parsed.
    :param share: see :class:`headrace.shares.Places`.
    :param count_refused: called with the reason of each refusal: ``no_room`` or ``stalled``.
    """

    def __init__(
        self,
        *,
        total_bytes: int,
        wait_seconds: float,
        share: Share | float = 1.0,
        count_refused: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._places = Places(max(1, total_bytes // PIECE_BYTES), share)
        self._parsed = Room(total_bytes, share)
        self._wait_seconds = wait_seconds
        self._count_refused = count_refused
        self._numbers = count()
        #: The incomplete bodies of each caller, oldest first.
        self._coming: dict[str, dict[Body, None]] = {}
        #: The bodies of each caller that wait for a piece, oldest first. If its future is done, a
        #: body waits no more.
        self._turns: dict[str, list[tuple[int, Body, asyncio.Future[None]]]] = {}
        self._waiting = 0
        self._look: asyncio.TimerHandle | None = None

    def figures(self) -> MemoryFigures:
        held = self._places.taken * PIECE_BYTES + self._parsed.bytes
        return MemoryFigures(held, self._waiting + self._parsed.waiting)

    def body(self, caller: str) -> "Body":
        """A body that has become large. It holds memory until :meth:`Body.release`."""
        return Body(self, caller, next(self._numbers))

    def begin(self, body: "Body") -> None:
        """The body begins to arrive."""
        self._coming.setdefault(body.caller, {})[body] = None

    def end(self, body: "Body") -> None:
        """The body is complete, or was refused."""
        coming = self._coming[body.caller]
        del coming[body]
        if not coming:
            del self._coming[body.caller]
        # Another body is the oldest now, and may go beyond the bound.
        self._admit()

    async def take_piece(self, body: "Body") -> None:
        """Wait for a piece of memory.

        :raises BodiesFull: none became free in time.
        """
        if self._may_take(body):
            self._hold(body)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._turns.setdefault(body.caller, []), (body.number, body, turn))
        self._waiting += 1
        self._look_for_stalled()
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(max(0.0, self._wait_seconds - body.waited_seconds)):
                await turn
        except TimeoutError:
            raise self._refusal("no_room", body) from None
        finally:
            # A body that got its piece in this very moment gives it back in give_back().
            self._waiting -= 1
            body.waited_seconds += asyncio.get_running_loop().time() - began

    def give_back(self, body: "Body") -> None:
        for _ in range(body.pieces):
            self._places.release(body.caller)
        body.pieces = 0
        self._admit()

    async def take_for_values(self, body: "Body", size_bytes: int) -> int:
        """Wait for memory for the parsed values.

        :returns: the bytes taken: never more than one caller may hold.
        :raises BodiesFull: no memory became free in time.
        """
        taken = min(size_bytes, self._parsed.most_bytes)
        try:
            await self._parsed.take(taken, body.caller, self._wait_seconds)
        except TimeoutError:
            raise self._refusal("no_room", body) from None
        return taken

    def give_back_values(self, body: "Body", size_bytes: int) -> None:
        self._parsed.give(size_bytes, body.caller)

    def stalled(self, body: "Body") -> BodiesFull:
        """The error for a body that brought nothing while others waited."""
        return self._refusal("stalled", body)

    def _refusal(self, reason: str, body: "Body") -> BodiesFull:
        self._count_refused(reason)
        _log.warning(
            "body_refused",
            reason=reason,
            bytes=body.pieces * PIECE_BYTES,
            used=self.figures().bytes,
            caller=body.caller or None,
        )
        return BodiesFull()

    def _may_take(self, body: "Body") -> bool:
        if self._places.allowance(body.caller):
            return True
        is_oldest = next(iter(self._coming[body.caller])) is body
        return is_oldest and self._places.taken - body.pieces <= self._places.total

    def _hold(self, body: "Body") -> None:
        self._places.hold(body.caller)
        body.pieces += 1

    def _admit(self) -> None:
        """Give free pieces to the caller that holds fewest, and to its oldest body."""
        while first := [queue[0] for caller in list(self._turns) if (queue := self._queue(caller))]:
            may = [entry for entry in first if self._may_take(entry[1])]
            if not may:
                return
            _, body, turn = min(may, key=lambda entry: self._places.held_by(entry[1].caller))
            heapq.heappop(self._turns[body.caller])
            self._hold(body)
            turn.set_result(None)

    def _queue(self, caller: str) -> list[tuple[int, "Body", asyncio.Future[None]]]:
        queue = self._turns[caller]
        while queue and queue[0][2].done():
            heapq.heappop(queue)
        if not queue:
            del self._turns[caller]
        return queue

    def _look_for_stalled(self) -> None:
        """Refuse stalled bodies now, and again while others wait."""
        if self._look is not None:
            return
        loop = asyncio.get_running_loop()
        for coming in self._coming.values():
            for body in coming:
                body.give_up_if_stalled(loop.time() - self._wait_seconds)
        self._look = loop.call_later(_LOOK_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._look = None
        if self._waiting:
            self._look_for_stalled()


class Body:
    """One large body. :meth:`release` gives its memory back."""

    def __init__(self, memory: BodyMemory, caller: str, number: int) -> None:
        self.caller = caller
        self.number = number
        #: Pieces of memory that it holds.
        self.pieces = 0
        self.waited_seconds = 0.0
        self._memory = memory
        self._values_bytes = 0
        self._is_waiting = False
        self._moved_at = 0.0
        self._patience: asyncio.Timeout | None = None

    @asynccontextmanager
    async def coming(self) -> AsyncIterator[None]:
        """Receive the body while the context is open.

        :raises BodiesFull: it brought nothing for too long while others waited.
        """
        self._memory.begin(self)
        try:
            async with asyncio.timeout(None) as self._patience:
                yield
        except TimeoutError:
            raise self._memory.stalled(self) from None
        finally:
            self._patience = None
            self._memory.end(self)

    async def grow(self, received_bytes: int) -> None:
        """Wait until the body has memory for ``received_bytes`` in all.

        :raises BodiesFull: no memory became free in time.
        """
        wanted = -(-received_bytes // PIECE_BYTES)
        if wanted <= self.pieces:
            return
        self._is_waiting = True
        while self.pieces < wanted:
            await self._memory.take_piece(self)
        self._is_waiting = False
        self._moved_at = asyncio.get_running_loop().time()

    def give_up_if_stalled(self, since: float) -> None:
        """Stop receiving if the body brought nothing since that time of the loop's clock."""
        if self._patience is not None and not self._is_waiting and self._moved_at <= since:
            self._patience.reschedule(asyncio.get_running_loop().time())
            self._patience = None

    async def admit_values(self, size_bytes: int) -> None:
        """Wait for memory for the parsed values: :func:`parsed_at_most` gives their size.

        :raises BodiesFull: no memory became free in time.
        """
        self._values_bytes = await self._memory.take_for_values(self, size_bytes)

    def release(self) -> None:
        """Give the memory back. Call this when the request is handled or refused."""
        self._memory.give_back(self)
        if self._values_bytes:
            size_bytes, self._values_bytes = self._values_bytes, 0
            self._memory.give_back_values(self, size_bytes)


def parsed_at_most(body: bytes, max_values: int) -> int:
    """Bytes that the parsed values of a body take at most. Too slow for the event loop."""
    values = 1 + body.count(b",") + body.count(b"[") + body.count(b"{")
    is_narrow = body.isascii() and b"\\u" not in body
    return min(values, max_values) * _VALUE_BYTES + len(body) * (
        1 if is_narrow else _WIDEST_CHARACTER
    )
