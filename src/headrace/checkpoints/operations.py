"""The operations that the group-commit writer commits, batched by kind."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar

from headrace.checkpoints.fence import RunToken
from headrace.checkpoints.run_writes import RunWrites
from headrace.db.pool import Connection

#: Called once the transaction has committed; returns an outcome for each operation, in order. An
#: exception is the outcome of an operation that was not done.
Outcomes = Callable[[], Awaitable[Sequence[Any]]]


class Numbers:
    """The tokens of a batch by number, from 1; 0 stands for no run."""

    def __init__(self, operations: "Sequence[Operation]") -> None:
        self._numbers: dict[RunToken, int] = {}
        for operation in operations:
            if operation.token is not None:
                self._numbers.setdefault(operation.token, len(self._numbers) + 1)

    @property
    def tokens(self) -> list[RunToken]:
        return list(self._numbers)

    def of(self, operation: "Operation") -> int:
        return 0 if operation.token is None else self._numbers[operation.token]


class Kind(ABC):
    """One kind of operation: how a batch of them is sent. Kinds go in ``order``."""

    order: ClassVar[int]

    @abstractmethod
    async def send(
        self, connection: Connection, operations: Sequence[Any], numbers: Numbers
    ) -> Outcomes:
        """Queue the statements on a pipelined transaction; fetch nothing yet."""


class Operation:
    """Something to commit for a thread.

    Committing it twice must have the effect of committing it once: a flush without an answer is
    repeated.
    """

    __slots__ = ("_outcome", "queued_at", "run", "sent_end", "settled", "size_bytes", "thread_id")

    kind: ClassVar[Kind]
    #: Whether its run cannot go on without it.
    fails_run: ClassVar[bool] = True

    def __init__(self, thread_id: str, run: RunWrites | None, *, size_bytes: int) -> None:
        self.thread_id = thread_id
        self.run = run
        self.size_bytes = size_bytes
        self.queued_at = 0.0
        self.settled = False
        #: The status that a flush with it, whose answer was lost, may have given its run.
        self.sent_end = ""
        self._outcome: asyncio.Future[Any] | None = None

    @property
    def ending(self) -> str:
        """The status it gives its run; empty when it does not end one."""
        return ""

    @property
    def token(self) -> RunToken | None:
        """The fence it stands behind."""
        return None if self.run is None else self.run.token

    @property
    def awaited(self) -> bool:
        """Somebody waits for this very operation."""
        return self._outcome is not None

    def outcome(self) -> "asyncio.Future[Any]":
        """Its result or error, once known. Cancelling the wait leaves the operation alone."""
        if self._outcome is None:
            self._outcome = asyncio.get_running_loop().create_future()
        return self._outcome

    def settle(self, outcome: Any) -> None:
        """Tell who waits, and the run it belongs to; an exception is a failure."""
        self.settled = True
        failure = outcome if isinstance(outcome, BaseException) else None
        if self.run is not None:
            self.run.settled(failure if self.fails_run else None)
        if self._outcome is None or self._outcome.done():
            return
        if failure is None:
            self._outcome.set_result(outcome)
        else:
            self._outcome.set_exception(failure)
            # The caller may be gone.
            self._outcome.exception()
