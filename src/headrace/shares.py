"""Places that several callers share, so that no caller takes all of them.

A caller may take a place if it then holds at most a share of its own and the free places. With a
share of 0.75, the first caller gets 75 of 100 places, the second 18 of the other 25, and so on: a
later caller still finds one. (Choudhury and Hahne, "Dynamic queue length thresholds for
shared-memory packet switches", 1998.)
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar

#: The caller that this context works for; empty if there is none.
current_caller: ContextVar[str] = ContextVar("headrace_current_caller", default="")


class Share:
    """The part of its own and the free places that one caller may hold. While there is only one
    caller, it may hold all.

    It changes while a process lives, because keys are made and revoked: places read it each time.

    :param part: for one of several callers.
    :ivar now: the part that holds now.
    """

    __slots__ = ("_part", "now")

    def __init__(self, part: float = 1.0, *, several: bool = True) -> None:
        self._part = part
        self.now = part if several else 1.0

    @property
    def several(self) -> bool:
        """Whether one caller leaves places to others."""
        return self.now < 1.0

    def divide(self, several: bool) -> bool:
        """There are several callers from now on, or only one. Returns whether that is a change."""
        before, self.now = self.now, self._part if several else 1.0
        return before != self.now


def _share_of(given: Share | float) -> Share:
    return given if isinstance(given, Share) else Share(given)


class Places:
    """Places, and the callers that hold them. Nobody waits here: see :class:`Gate`.

    :param total: the number of places. It may change.
    :param share: a caller may hold this part of its own and the free places together. 1.0 lets one
        caller take all places.
    :param most: a caller may never hold more; 0: its share alone bounds it.
    """

    def __init__(self, total: int, share: Share | float = 1.0, *, most: int = 0) -> None:
        self.total = total
        self.most = most
        self._share = _share_of(share)
        self._held: dict[str, int] = {}
        self._taken = 0

    @property
    def free(self) -> int:
        return max(0, self.total - self._taken)

    @property
    def taken(self) -> int:
        return self._taken

    @property
    def shared(self) -> bool:
        """Whether a caller may hold only a share, not all places."""
        return self._share.several or bool(self.most)

    def held_by(self, caller: str) -> int:
        return self._held.get(caller, 0)

    def allowance(self, caller: str) -> int:
        """How many more places the caller may take now, if no other caller takes any."""
        free, held = self.free, self.held_by(caller)
        if not free:
            return 0
        # Taking a place does not change ``held + free``. A caller without a place gets one.
        allowed = max(int(self._share.now * (held + free)) - held, 0 if held else 1)
        return max(0, min(allowed, self.most - held)) if self.most else allowed

    def copy(self) -> "Places":
        """A copy, to try out who could take places."""
        copied = Places(self.total, self._share, most=self.most)
        copied._held, copied._taken = self._held.copy(), self._taken
        return copied

    def callers(self) -> dict[str, int]:
        """How many places each caller holds."""
        return dict(self._held)

    def take(self, caller: str) -> bool:
        """Take a place, if the caller may. It is held until :meth:`release`."""
        if not self.allowance(caller):
            return False
        self.hold(caller)
        return True

    def hold(self, caller: str, count: int = 1) -> None:
        """Hold places though the share may be used up: running work is counted, not refused."""
        self._held[caller] = self._held.get(caller, 0) + count
        self._taken += count

    def release(self, caller: str, count: int = 1) -> None:
        """Give places back.

        :raises ValueError: the caller does not hold so many.
        """
        left = self._held.get(caller, 0) - count
        if left < 0:
            raise ValueError("no place is held, or too few")
        if left:
            self._held[caller] = left
        else:
            del self._held[caller]
        self._taken -= count


class QueueFull(Exception):
    """Too many requests of all callers, or of this caller, wait at a gate."""


class TurnedAway(Exception):
    """The gate lets nobody wait any more."""


class Gate:
    """Places that a caller can wait for. The waiting caller that holds fewest gets a free place.

    :param timeout_seconds: the longest wait.
    :param queue: places for those that wait; without it, any number may wait.
    :ivar held_back: so many free places are not for those that wait. After it has fallen, call
        :meth:`admit`.
    """

    def __init__(
        self, places: Places, *, timeout_seconds: float, queue: Places | None = None
    ) -> None:
        self.places = places
        self._timeout_seconds = timeout_seconds
        self._queue = queue
        #: What each of those that wait is told: whether it has got a place.
        self._waiting: dict[str, deque[asyncio.Future[bool]]] = {}
        self.held_back = 0

    @property
    def waiting(self) -> int:
        return sum(len(queue) for queue in self._waiting.values())

    def waiting_of(self, caller: str) -> int:
        return len(self._waiting.get(caller, ()))

    @asynccontextmanager
    async def place(self, caller: str) -> AsyncIterator[None]:
        """Hold a place while the context is open.

        :raises TimeoutError: no place became free for this caller in time.
        :raises QueueFull: too many wait already.
        """
        await self.take(caller)
        try:
            yield
        finally:
            self.release(caller)

    async def take(self, caller: str) -> None:
        """Wait for a place. Give it back with :meth:`release`.

        :raises TimeoutError: no place became free for this caller in time.
        :raises QueueFull: too many wait already.
        """
        if caller not in self._waiting and self._has_room and self.places.take(caller):
            return
        if self._queue is None:
            await self.wait(caller)
            return
        if not self._queue.take(caller):
            raise QueueFull
        try:
            await self.wait(caller)
        finally:
            self._queue.release(caller)

    async def wait(self, caller: str) -> None:
        """Wait for a place, though one may be free. Give it back with :meth:`release`.

        :raises TimeoutError: no place became free for this caller in time.
        :raises TurnedAway: :meth:`turn_away` was called.
        """
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(turn)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                if not await turn:
                    raise TurnedAway
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.result():
                # It got the place in this very moment.
                self.release(caller)
            else:
                self._leave(caller, turn)
            raise

    def turn_away(self) -> None:
        """End all waits: those that wait now get no place."""
        waiting, self._waiting = self._waiting, {}
        for turn in (turn for queue in waiting.values() for turn in queue):
            if not turn.done():
                turn.set_result(False)

    def release(self, caller: str) -> None:
        self.places.release(caller)
        self.admit()

    def resize(self, total: int) -> None:
        """There are so many places from now on. Those that are held beyond them stay held."""
        grown, self.places.total = total > self.places.total, total
        if grown:
            self.admit()

    @property
    def _has_room(self) -> bool:
        return self.places.free > self.held_back

    def _leave(self, caller: str, turn: asyncio.Future[bool]) -> None:
        queue = self._waiting.get(caller)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[caller]

    def admit(self) -> None:
        """Give the free places to those that wait, as far as they may have them."""
        while self._waiting and self._has_room:
            may = [caller for caller in self._waiting if self.places.allowance(caller)]
            if not may:
                return
            caller = min(may, key=self.places.held_by)
            queue = self._waiting[caller]
            turn = queue.popleft()
            if not queue:
                del self._waiting[caller]
            elif len(self._waiting) > 1:
                # Other callers that hold as few places come first now.
                self._waiting[caller] = self._waiting.pop(caller)
            if not turn.done():
                self.places.hold(caller)
                turn.set_result(True)


class Room:
    """Bytes that several callers share. The requests of one caller are served in order.

    A caller may hold a share of its own and the free bytes together. The caller that holds least is
    served first, and no caller waits behind the queue of another. A request for more than the share
    is served when nothing else is held.

    :param share: 1.0 lets one caller take all bytes.
    """

    def __init__(self, total_bytes: int, share: Share | float = 1.0) -> None:
        self._total = total_bytes
        self._share = _share_of(share)
        self.bytes = 0
        self._held: dict[str, int] = {}
        self._waiting: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}

    @property
    def most_bytes(self) -> int:
        """The bytes that a caller may hold while no other caller holds any."""
        return int(self._share.now * self._total)

    @property
    def waiting(self) -> int:
        return sum(len(queue) for queue in self._waiting.values())

    async def take(self, size_bytes: int, caller: str, timeout_seconds: float) -> None:
        """Wait until the caller may hold so many bytes more. Give them back with :meth:`give`.

        :raises TimeoutError: the bytes did not become free for this caller in time.
        """
        if caller not in self._waiting and self._may_hold(size_bytes, caller):
            self._hold(size_bytes, caller)
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (size_bytes, granted)
        self._waiting.setdefault(caller, deque()).append(place)
        try:
            async with asyncio.timeout(timeout_seconds):
                await granted
        except BaseException:
            if granted.done() and not granted.cancelled():
                # It got the bytes in this very moment.
                self._hold(-size_bytes, caller)
            else:
                self._leave(caller, place)
            self._grant()
            raise

    def give(self, size_bytes: int, caller: str) -> None:
        self._hold(-size_bytes, caller)
        self._grant()

    def _hold(self, size_bytes: int, caller: str) -> None:
        self.bytes += size_bytes
        held = self._held.get(caller, 0) + size_bytes
        if held:
            self._held[caller] = held
        else:
            self._held.pop(caller, None)

    def _may_hold(self, size_bytes: int, caller: str) -> bool:
        if not self.bytes:
            return True
        held, free = self._held.get(caller, 0), self._total - self.bytes
        return size_bytes <= free and held + size_bytes <= self._share.now * (held + free)

    def _leave(self, caller: str, place: tuple[int, asyncio.Future[None]]) -> None:
        queue = self._waiting.get(caller, deque())
        with suppress(ValueError):
            queue.remove(place)
            if not queue:
                del self._waiting[caller]

    def _grant(self) -> None:
        while True:
            may = [one for one, queue in self._waiting.items() if self._may_hold(queue[0][0], one)]
            if not may:
                return
            caller = min(may, key=lambda one: self._held.get(one, 0))
            size_bytes, granted = place = self._waiting[caller][0]
            self._leave(caller, place)
            if not granted.done():
                self._hold(size_bytes, caller)
                granted.set_result(None)
