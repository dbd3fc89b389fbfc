"""The memory that a process has for answers with large states, and the reads that take it.

How many bytes a state holds is known before it is read (``bounded.py``). Whoever reads it for a
client takes memory for it first, keeps it until the answer has left, and waits a bounded time where
there is none. Runs read without a bound: a graph needs its state.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Self

import structlog

from headrace.errors import AnswersFull, AnswerTooLarge, HeadraceError
from headrace.observability.figures import MemoryFigures
from headrace.request_settings import AnswerSettings
from headrace.shares import Room, current_caller

_log = structlog.stdlib.get_logger("headrace.answers")

#: Smaller states take no memory that is worth counting, and never wait.
FREE_BYTES = 64 * 1024

#: A state in memory is its bytes as they came, what they are decoded to, and a part of its JSON.
_COPIES = 3

_current: ContextVar["Reading | None"] = ContextVar("headrace_reading", default=None)


class StateIsLarge(HeadraceError):
    """The state is not among the small ones that were asked for."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__()
        self.size_bytes = size_bytes


class AnswerMemory:
    """One per process.

    :param share: see :class:`headrace.shares.Room`: one caller leaves some to others.
    :param count: called with what became of an answer that met a bound: ``shortened``,
        ``too_large``, ``no_room``, ``cut``.
    """

    def __init__(
        self,
        settings: AnswerSettings,
        *,
        share: float = 1.0,
        count: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        self.settings = settings
        self.count = count
        self._room = Room(settings.memory_bytes, share)
        #: What the answers of one caller may hold.
        self.most_bytes = self._room.most_bytes

    def figures(self) -> MemoryFigures:
        return MemoryFigures(self._room.bytes, self._room.waiting)

    def reading(
        self, *, channels: Collection[str] | None = None, only_small: bool = False
    ) -> "Reading":
        """The reads of one answer; see :class:`Reading`."""
        return Reading(self, channels=channels, only_small=only_small)

    async def take(self, size_bytes: int, caller: str) -> None:
        """Return once there are so many bytes for this caller.

        :raises AnswersFull: not in time.
        """
        try:
            await self._room.take(size_bytes, caller, self.settings.wait_seconds)
        except TimeoutError:
            self.count("no_room")
            used = self._room.bytes
            _log.warning("answer_refused", reason="no_room", bytes=size_bytes, used=used)
            raise AnswersFull from None

    def give(self, size_bytes: int, caller: str) -> None:
        self._room.give(size_bytes, caller)


class Reading:
    """What one answer reads: sizes are admitted before values are read.

    Its memory is given back by :meth:`release`, or once nobody has it any more.

    :param channels: whose values are wanted; LangGraph's own are read besides. None: all.
    :param only_small: refuse larger states with :class:`StateIsLarge`.
    """

    def __init__(
        self, memory: AnswerMemory, *, channels: Collection[str] | None, only_small: bool
    ) -> None:
        self.memory = memory
        self._caller = current_caller.get()
        self.channels = None if channels is None else sorted(channels)
        self.only_small = only_small
        #: Memory that it has taken.
        self.held = 0
        #: Memory that its answer holds besides: it cannot wait for that.
        self.beside = 0
        #: Bytes of the states that it has read.
        self.bytes = 0
        #: Checkpoints and their bytes that the last page did not read, in its order.
        self.rest: list[tuple[str, int]] = []
        #: Checkpoints and bytes that the next page consists of; they were admitted.
        self.admitted: Sequence[tuple[str, int]] = ()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Within the block the saver reads for this answer."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    async def admit(self, size_bytes: int) -> None:
        """Return once a state of this size may be read.

        :raises AnswerTooLarge: it is larger than any answer may be.
        :raises AnswersFull: there is no memory for it now.
        :raises StateIsLarge: only small ones are wanted.
        """
        self.refuse_too_large(size_bytes)
        await self.take(size_bytes)
        self.bytes += size_bytes

    def refuse_too_large(self, size_bytes: int) -> None:
        """:raises AnswerTooLarge: a state of this size is larger than any answer may be."""
        if size_bytes > (limit := self.memory.settings.max_state_bytes):
            self.memory.count("too_large")
            _log.warning("answer_refused", reason="too_large", bytes=size_bytes)
            raise AnswerTooLarge(too_large(size_bytes, limit))

    async def take(self, size_bytes: int) -> None:
        """Return once there is memory for states that come to so many bytes.

        :raises AnswersFull, StateIsLarge: as :meth:`admit`.
        """
        if size_bytes > FREE_BYTES:
            if self.only_small:
                raise StateIsLarge(size_bytes)
            # What it has itself it cannot wait for.
            room = max(self.memory.most_bytes - self.held - self.beside, 0)
            wanted = min(size_bytes * _COPIES, room)
            await self.memory.take(wanted, self._caller)
            self.held += wanted

    async def keep(self, size_bytes: int) -> None:
        """Hold as much in all, once there is so much.

        :raises AnswersFull: there is not.
        """
        more = size_bytes - self.held
        if size_bytes > FREE_BYTES and more > 0:
            more = min(more, max(self.memory.most_bytes - self.held, 0))
            await self.memory.take(more, self._caller)
            self.held += more

    def begin_again(self) -> None:
        """What was read is of no use, and what is read in its place counts instead of it."""
        if not self.admitted:
            self.release()
            self.bytes = 0
            self.rest = []

    def release(self) -> None:
        """Its answer has left."""
        held, self.held = self.held, 0
        if held:
            self.memory.give(held, self._caller)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def __del__(self) -> None:
        # Of an answer that was never sent.
        self.release()


def too_large(size_bytes: int, limit_bytes: int) -> str:
    """What a caller is told who asked for a state of this size."""
    return (
        f"The state holds {size_bytes} bytes, and an answer reads at most {limit_bytes} (setting"
        " answers.max_state_bytes). Ask for parts of it: GET /threads/{thread_id}/state"
        "?select=values.<key>. GET /threads/{thread_id}/storage tells how large each key is."
    )


def current_reading() -> Reading | None:
    """The answer that is read for; None for runs."""
    return _current.get()
