"""The fence: a process that lost a run writes nothing for it any more.

Writes of a run carry its token. A flush is one call of a function (db/flush_2.sql). A statement of
the function takes the process's advisory lock in its shared form. So the next statement sees every
take-over that was committed before. It remembers which tokens are still valid. Rows of other tokens
are not written.

A process that takes runs from another process first takes the exclusive form of that process's
lock. So it waits for a flush in flight, and a later flush sees that the run has moved. One
statement that locks and writes would let stale rows through. A snapshot from before the lock
(REPEATABLE READ) would do so too. The tests prove both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from headrace.db.arrays import BigInteger, Column, Integer, Text, TextValue, Uuid
from headrace.db.pool import Connection


@dataclass(frozen=True, slots=True)
class RunToken:
    """The right to write for a run: its attempt, and the process that executes it."""

    run_id: UUID
    attempt: int
    process_id: UUID

    def __hash__(self) -> int:
        # A flush looks its tokens up often. The hash of all fields takes three times as long.
        return hash(self.run_id)


def process_key(process_id: UUID) -> int:
    """The advisory lock of a process: the random half of its id as a signed bigint."""
    return int.from_bytes(process_id.bytes[8:], "big", signed=True)


async def lock_out(connection: Connection, process_id: UUID) -> None:
    """Wait for the flushes of a process that are in flight. Its next flush waits until this
    transaction ends, and then sees what the transaction has changed.

    Call it in a transaction that has not locked any thread yet.

    :raises psycopg.errors.LockNotAvailable: a flush takes longer than the transaction waits.
    """
    key = process_key(process_id)
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (key,), prepare=False)


class Guard:
    """The first arguments of every flush: time limits, the locks of the fence, and the tokens."""

    def __init__(self, *, lock_timeout_seconds: float, transaction_timeout_seconds: float) -> None:
        self._limits = {
            "lock_timeout": _milliseconds(lock_timeout_seconds),
            "transaction_timeout": _milliseconds(transaction_timeout_seconds),
        }

    def arguments(
        self,
        tokens: Sequence[RunToken],
        endings: Sequence[str],
        held_threads: Sequence[str] = (),
    ) -> dict[str, Column]:
        """
        :param endings: for each token, the status that an earlier try of this flush may already
            have given to its run, or an empty string. If the run has that status, the try has
            committed its rows too. They count as written, and are not written again: that could
            overwrite changes of the thread's next run.
        :param held_threads: threads that no other process may delete before the transaction ends.
        """
        given: dict[str, Column] = {**self._limits}
        if held_threads:
            given["held_thread_ids"] = Text([thread_id.encode() for thread_id in held_threads])
        if tokens:
            keys = {process_key(token.process_id) for token in tokens}
            given["process_keys"] = BigInteger(sorted(keys))
            given["token_run_ids"] = Uuid([token.run_id for token in tokens])
            given["token_attempts"] = Integer([token.attempt for token in tokens])
            given["token_process_ids"] = Uuid([token.process_id for token in tokens])
            given["token_endings"] = Text([ending.encode() for ending in endings])
        return given


def _milliseconds(seconds: float) -> TextValue:
    return TextValue(f"{int(seconds * 1000)}ms".encode())
