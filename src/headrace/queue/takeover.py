"""Takes runs from lost processes, ends runs that no process can execute, and mends threads."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from psycopg.errors import InsufficientPrivilege, LockNotAvailable
from psycopg.types.json import Jsonb

from headrace.checkpoints.fence import process_key
from headrace.db.faults import translated_faults
from headrace.db.planner import indexed_rows
from headrace.db.pool import SharedPool
from headrace.db.transactions import locking_transaction
from headrace.queue.ends import queue_statements
from headrace.queue.rows import Proof
from headrace.unavailable_errors import Unavailable

_log = structlog.stdlib.get_logger("headrace.queue")

#: A run that so many processes were lost with is a suspect, if it may be the cause.
SUSPECT_FAILURES = 2


def failures_of_suspect(max_failures: int) -> int:
    """How many lost processes make a suspect: fewer than end a run, if that is possible."""
    return max(1, min(SUSPECT_FAILURES, max_failures - 1))


@dataclass(frozen=True, slots=True)
class TakenRun:
    """``status``: ``pending`` if the run goes on, ``interrupted`` or ``error`` if it has ended.

    ``again``: a process was lost before while it executed the run, and the run may be the cause.
    """

    run_id: UUID
    thread_id: str
    graph_id: str
    status: str
    failures: int
    again: bool = False
    #: The attempt whose process was lost, and for how long it had been executed.
    attempt: int = 0
    started_at: datetime | None = None
    lived_seconds: float = 0.0
    traceparent: str | None = None
    #: What has proven that its process was lost.
    proof: Proof = field(default="lease", kw_only=True)


class Takeover:
    """The one way to take runs from another process."""

    def __init__(self, pool: SharedPool, *, lock_timeout_seconds: float) -> None:
        self._pool = pool
        self._sql = queue_statements()
        self._transaction = partial(
            locking_transaction, pool, lock_timeout_seconds=lock_timeout_seconds
        )

    async def take_runs_of_lost_processes(
        self,
        error: Mapping[str, str],
        *,
        max_failures: int,
        apart_seconds: float = 10.0,
        by_clock: bool = True,
    ) -> list[TakenRun]:
        """Mark processes as lost whose lease has expired, or that an older timeline of the server
        has left behind. Take their runs: most go back into the queue.

        A run ends instead if it was asked to stop, or if it has reached ``max_failures``.

        :param error: the error of a run that has reached ``max_failures``.
        :param max_failures: how many lost processes end a run that may be the cause.
        :param apart_seconds: for at least so long, a suspect had its process to itself.
        :param by_clock: False: this process may not judge by expired leases now.
        :raises Unavailable: the database could not be reached. The next call goes on.
        """
        found = await self._found("processes_to_take_from", {"by_clock": by_clock})
        judgement = {**_judgement(error, max_failures, apart_seconds), "by_clock": by_clock}
        taken = await self._take_from(dict.fromkeys(found), judgement)
        async with self._transaction() as connection:
            await connection.execute(self._sql["forget_lost_processes"], prepare=False)
        return taken

    async def take_runs_of_dead_processes(
        self,
        dead: Mapping[UUID, float],
        error: Mapping[str, str],
        *,
        max_failures: int,
        apart_seconds: float = 10.0,
    ) -> list[TakenRun]:
        """As :meth:`take_runs_of_lost_processes`, from processes whose end is proven.

        Their leases are not looked at. A process that lives would lose its runs: the fence keeps it
        from writing, but its graphs go on until it notices.

        :param dead: process id to seconds since its end, by the clock of this machine.
        :raises Unavailable: the database could not be reached. The same call may be made again.
        """
        found = await self._found("dead_processes_to_take_from", {"process_ids": list(dead)})
        judgement = _judgement(error, max_failures, apart_seconds)
        return await self._take_from({one: dead[one] for one in found}, judgement)

    async def _found(self, name: str, values: Mapping[str, Any]) -> list[UUID]:
        with translated_faults():
            rows = await indexed_rows(self._pool, self._sql[name], values)
        return [process_id for (process_id,) in rows]

    async def _take_from(
        self, processes: Mapping[UUID, float | None], judgement: Mapping[str, Any]
    ) -> list[TakenRun]:
        """:param processes: process id to seconds since its proven end; None: its lease tells."""
        taken: list[TakenRun] = []
        for process_id, dead_seconds in processes.items():
            try:
                taken += await self._take_surely(process_id, dead_seconds, judgement)
            except Unavailable:
                raise
            except Exception:
                # Perhaps a row of this process is damaged. Runs of other lost processes must go on.
                _log.exception("lost_process_passed_over", process_id=str(process_id))
        return taken

    async def _take_surely(
        self, process_id: UUID, dead_seconds: float | None, judgement: Mapping[str, Any]
    ) -> list[TakenRun]:
        """Take the runs of a process, even if its last flush still holds locks."""
        values = {
            **judgement,
            "process_id": process_id,
            "key": process_key(process_id),
            "dead_seconds": dead_seconds,
        }
        with suppress(LockNotAvailable):
            return await self._take_runs(values)
        await self._end_flushes(values)
        with suppress(LockNotAvailable):
            return await self._take_runs(values)
        # The process is alive, or another process takes its runs. The next round comes soon.
        _log.warning("lost_process_passed_over", process_id=str(process_id))
        return []

    async def _take_runs(self, values: Mapping[str, Any]) -> list[TakenRun]:
        """Lock the process, judge whether it is lost, then take its runs.

        :raises LockNotAvailable: a flush of the process, or a third process, held a lock for too
            long.
        """
        proof: Proof = "lease" if values["dead_seconds"] is None else "exit"
        mark = "mark_process_lost_if_expired" if proof == "lease" else "mark_dead_process_lost"
        async with self._transaction() as connection:
            await connection.execute(self._sql["lock_process"], values)
            await connection.execute(self._sql[mark], values)
            await connection.execute(self._sql["lock_threads_of_lost_runs"], values)
            await connection.execute(self._sql["remember_apart_seconds"], values)
            cursor = await connection.execute(self._sql["take_lost_runs"], values)
            await connection.execute(self._sql["refresh_locked_threads"], prepare=False)
            rows = await cursor.fetchall()
        return [TakenRun(*row, proof=proof) for row in rows]

    async def _end_flushes(self, values: Mapping[str, Any]) -> None:
        process_id = str(values["process_id"])
        try:
            async with self._transaction() as connection:
                await connection.execute(self._sql["end_flushes_of_lost_process"], values)
        except InsufficientPrivilege:
            _log.warning("flush_of_lost_process_left", process_id=process_id)
        else:
            _log.warning("flush_of_lost_process_ended", process_id=process_id)

    async def end_unserved_runs(self, seconds: float) -> list[TakenRun]:
        """End runs as errors if they have waited so long for a graph that no process executes."""
        values = {"seconds": seconds}
        async with self._transaction() as connection:
            await connection.execute(self._sql["lock_threads_of_unserved"], values)
            cursor = await connection.execute(self._sql["end_unserved_runs"], values)
            await connection.execute(self._sql["refresh_locked_threads"], prepare=False)
            rows = await cursor.fetchall()
        return [TakenRun(*row) for row in rows]

    async def end_overdue_runs(self) -> list[TakenRun]:
        """End waiting runs whose deadline has passed, as ``timeout``."""
        with translated_faults():
            rows = await indexed_rows(self._pool, self._sql["threads_of_overdue"], {})
        if not rows:
            return []
        thread_ids = [row[0] for row in rows]
        async with self._transaction() as connection:
            await connection.execute(self._sql["lock_threads"], {"thread_ids": thread_ids})
            cursor = await connection.execute(self._sql["end_overdue_runs"], prepare=False)
            await connection.execute(self._sql["refresh_locked_threads"], prepare=False)
            rows = await cursor.fetchall()
        return [TakenRun(*row) for row in rows]

    async def mend_threads(self) -> int:
        """Make waiting runs claimable if they are not. Returns the number of threads concerned."""
        with translated_faults():
            rows = await indexed_rows(self._pool, self._sql["threads_to_mend"], {})
        thread_ids = [row[0] for row in rows]
        if thread_ids:
            async with self._transaction() as connection:
                await connection.execute(self._sql["lock_threads"], {"thread_ids": thread_ids})
                await connection.execute(self._sql["refresh_locked_threads"], prepare=False)
        return len(thread_ids)


def _judgement(
    error: Mapping[str, str], max_failures: int, apart_seconds: float
) -> Mapping[str, Any]:
    """The values by which ``take_lost_runs`` says what becomes of each run."""
    return {
        "error": Jsonb(dict(error)),
        "max_failures": max_failures,
        "suspect_failures": failures_of_suspect(max_failures),
        "apart_seconds": apart_seconds,
    }
