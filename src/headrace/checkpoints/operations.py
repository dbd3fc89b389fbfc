"""The operations that the group-commit writer commits, batched by kind."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar

from headrace.checkpoints.fence import RunToken
from headrace.checkpoints.flush_call import Answer, Arguments
from headrace.checkpoints.run_writes import RunWrites
from headrace.db.pool import Connection
from headrace.errors import LeaseLost
from headrace.tracing.tracer import NO_WRITE_TRACE

#: Called after the commit; returns the outcome of each operation, in order. If an operation was not
#: done, its outcome is an exception.
Outcomes = Callable[[], Awaitable[Sequence[Any]]]


class Numbers:
    """Numbers for the tokens of a batch, from 1; 0 stands for no run."""

    def __init__(self, operations: "Sequence[Operation]") -> None:
        self._numbers: dict[RunToken, int] = {}
        for operation in operations:
            token = operation.token
            if token is not None and token not in self._numbers:
                self._numbers[token] = len(self._numbers) + 1

    @property
    def tokens(self) -> list[RunToken]:
        return list(self._numbers)

    def of(self, operation: "Operation") -> int:
        token = operation.token
        return 0 if token is None else self._numbers[token]


class Kind(ABC):
    """How the operations of one kind in a batch are sent: a :class:`CalledKind`, or a
    :class:`StatementKind`.
    """

    #: The kinds of a batch are sent in this order: first all called kinds, of which no two have one
    #: number, then those with statements of their own.
    order: ClassVar[int]


class CalledKind(Kind):
    """Its operations are arguments of the function that does a whole flush (db/flush_2.sql)."""

    @abstractmethod
    def arguments(self, operations: Sequence[Any], numbers: Numbers) -> Arguments:
        """The arguments of the call, by name."""

    @abstractmethod
    def outcomes(
        self, operations: Sequence[Any], numbers: Numbers, answer: Answer
    ) -> Sequence[Any]:
        """The outcome of each operation, in order. An exception: it was not done."""


class StatementKind(Kind):
    """Its operations have statements of their own, in one transaction with the function call."""

    #: It sends one statement, which waits for no lock. So a batch of this kind alone needs neither
    #: the function call nor a transaction around both.
    is_one_statement: ClassVar[bool] = False

    @abstractmethod
    async def send(self, connection: Connection, operations: Sequence[Any]) -> Outcomes:
        """Queue the statements on a pipelined transaction. Fetch no result yet."""


def written_if_live(
    operations: "Sequence[Operation]", numbers: Numbers, answer: Answer
) -> list[LeaseLost | None]:
    """The outcomes of operations that are done unless this process has lost their runs."""
    if not answer.lost:
        return [None] * len(operations)
    return [LeaseLost() if numbers.of(one) in answer.lost else None for one in operations]


class Operation:
    """Something to commit for a thread.

    Two commits of it must have the effect of one: a flush without an answer is repeated.
    """

    __slots__ = (
        "_outcome",
        "queued_at",
        "run",
        "sent_end",
        "settled",
        "size_bytes",
        "thread_id",
        "trace",
    )

    kind: ClassVar[Kind]
    #: Whether its failure fails its run.
    fails_run: ClassVar[bool] = True
    #: Whether its rows may have the keys of rows that another run of the thread writes.
    has_keys_of_thread: ClassVar[bool] = False

    def __init__(self, thread_id: str, run: RunWrites | None, *, size_bytes: int) -> None:
        self.thread_id = thread_id
        self.run = run
        self.size_bytes = size_bytes
        self.queued_at = 0.0
        self.settled = False
        self.trace = NO_WRITE_TRACE
        #: The status that an earlier flush of it, whose answer was lost, may have given to its run.
        self.sent_end = ""
        self._outcome: asyncio.Future[Any] | None = None

    @property
    def ending(self) -> str:
        """The status that it gives to its run; empty if it does not end the run."""
        return ""

    @property
    def token(self) -> RunToken | None:
        """The token of the fence that guards it; None if there is no fence."""
        return None if self.run is None else self.run.token

    @property
    def awaited(self) -> bool:
        """Whether a caller waits for this operation."""
        return self._outcome is not None

    def outcome(self) -> "asyncio.Future[Any]":
        """A future of its result or error. Cancelling the future does not cancel the operation."""
        if self._outcome is None:
            self._outcome = asyncio.get_running_loop().create_future()
        return self._outcome

    def settle(self, outcome: Any) -> None:
        """Give the outcome to the waiting caller and to the run. An exception is a failure."""
        self.settled = True
        failure = outcome if isinstance(outcome, BaseException) else None
        self.trace.end(failure)
        if self.run is not None:
            self.run.settled(failure if self.fails_run else None)
            if failure is not None and self.fails_run:
                # A flush fails with an error for each operation. The graph must raise that of its
                # run, whichever write it waits for: others are taken for its own.
                failure = self.run.failure
        if self._outcome is None or self._outcome.done():
            return
        if failure is None:
            self._outcome.set_result(outcome)
        else:
            self._outcome.set_exception(failure)
            # The caller may be gone.
            self._outcome.exception()
