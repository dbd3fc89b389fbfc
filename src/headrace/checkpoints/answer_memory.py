"""The memory that a process has for answers with large states, and the reads that take it.

The size of a state is known before the state is read (``sized_reads.py``). A read for a client
first takes memory for the state. If there is none, the read waits for a bounded time. It keeps the
memory until the answer is sent. Runs read without a bound: a graph needs its state.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Self

import structlog

from headrace.errors import AnswerTooLarge, HeadraceError
from headrace.observability.figures import MemoryFigures
from headrace.request_settings import AnswerSettings
from headrace.shares import Room, Share, current_caller
from headrace.unavailable_errors import AnswersFull

_log = structlog.stdlib.get_logger("headrace.answers")

#: Smaller states are not counted, and never wait.
FREE_BYTES = 64 * 1024

#: A state in memory is its bytes from Postgres, the decoded values, and a part of its JSON.
_COPIES = 3

_current: ContextVar["Reading | None"] = ContextVar("headrace_reading", default=None)


class StateIsLarge(HeadraceError):
    """Raised for a large state when the caller wants only small ones."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__()
        self.size_bytes = size_bytes


class AnswerMemory:
    """One per process.

    :param share: see :class:`headrace.shares.Room`: one caller leaves some memory to others.
    :param count: called with the outcome of an answer that met a bound: ``shortened``,
        ``too_large``, ``no_room``, ``cut``.
    """

    def __init__(
        self,
        settings: AnswerSettings,
        *,
        share: Share | float = 1.0,
        count: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        self.settings = settings
        self.count = count
        self._room = Room(settings.memory_bytes, share)

    @property
    def most_bytes(self) -> int:
        """The bytes that the answers of one caller may hold."""
        return self._room.most_bytes

    def figures(self) -> MemoryFigures:
        return MemoryFigures(self._room.bytes, self._room.waiting)

    def reading(
        self, *, channels: Collection[str] | None = None, only_small: bool = False
    ) -> "Reading":
        """The reads of one answer; see :class:`Reading`."""
        return Reading(self, channels=channels, only_small=only_small)

    async def take(self, size_bytes: int, caller: str) -> None:
        """Return once this caller may use so many bytes.

        :raises AnswersFull: there is no memory in time.
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
    """The reads of one answer: sizes are admitted before values are read.

    :meth:`release` gives its memory back; so does the garbage collector if it is never called.

    :param channels: the channels whose values are wanted, besides LangGraph's own; None: all.
    :param only_small: refuse larger states with :class:`StateIsLarge`.
    """

    def __init__(
        self, memory: AnswerMemory, *, channels: Collection[str] | None, only_small: bool
    ) -> None:
        self.memory = memory
        self._caller = current_caller.get()
        self.channels = None if channels is None else sorted(channels)
        self.only_small = only_small
        #: Bytes of memory that this reading has taken.
        self.held = 0
        #: Bytes that the answer holds for other threads. The reading cannot wait for them.
        self.beside = 0
        #: Bytes of the states that were read.
        self.bytes = 0
        #: Checkpoints of the last page that were not read, with their bytes, in the page's order.
        self.rest: list[tuple[str, int]] = []
        #: Checkpoints of the next page, with their bytes. Memory for them has been taken.
        self.admitted: Sequence[tuple[str, int]] = ()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Within the block the saver's reads belong to this answer."""
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
        """Return once there is memory for states of so many bytes together.

        :raises AnswersFull, StateIsLarge: as :meth:`admit`.
        """
        if size_bytes > FREE_BYTES:
            if self.only_small:
                raise StateIsLarge(size_bytes)
            # A reading cannot wait for memory that its own answer holds.
            room = max(self.memory.most_bytes - self.held - self.beside, 0)
            wanted = min(size_bytes * _COPIES, room)
            await self.memory.take(wanted, self._caller)
            self.held += wanted

    async def keep(self, size_bytes: int) -> None:
        """Take more memory, until the reading holds so many bytes.

        :raises AnswersFull: there is not enough in time.
        """
        more = size_bytes - self.held
        if size_bytes > FREE_BYTES and more > 0:
            more = min(more, max(self.memory.most_bytes - self.held, 0))
            await self.memory.take(more, self._caller)
            self.held += more

    def begin_again(self) -> None:
        """Forget what was read, because the answer is read anew: only the new read counts.

        If the page's checkpoints were admitted before, their memory stays taken.
        """
        if not self.admitted:
            self.release()
            self.bytes = 0
            self.rest = []

    def release(self) -> None:
        """Give the memory back: the answer is sent."""
        held, self.held = self.held, 0
        if held:
            self.memory.give(held, self._caller)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def __del__(self) -> None:
        # For an answer that was never sent.
        self.release()


def too_large(size_bytes: int, limit_bytes: int) -> str:
    """The message to a caller whose state is too large."""
    return (
        f"The state holds {size_bytes} bytes, and an answer reads at most {limit_bytes} (setting"
        " answers.max_state_bytes). Ask for parts of it: GET /threads/{thread_id}/state"
        "?select=values.<key>. GET /threads/{thread_id}/storage tells how large each key is."
    )


def current_reading() -> Reading | None:
    """The reading of the answer that the calling task works for; None in runs."""
    return _current.get()
