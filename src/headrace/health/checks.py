"""The database and schema checks behind readiness: they run in the background, and probes read
their results from memory.

A probe must get its answer in milliseconds while Postgres is away, and must not add load when
Postgres is back.
"""

import asyncio
from time import monotonic

import structlog

from headrace.db.faults import DatabaseAway, driver_reason, public_reason, translated_faults
from headrace.db.pool import SharedPool
from headrace.db.schema import SchemaState, read_state
from headrace.errors import HeadraceError
from headrace.lifecycle import Supervision, Tasks
from headrace.unavailable_errors import DatabaseUnavailable, PoolExhausted, Unavailable

_log = structlog.stdlib.get_logger("headrace.health")

#: A single failure may be one connection that died; two in a row are the database.
_FAILURES_UNTIL_UNREACHABLE = 2

#: While the database is away, a new reason is logged only if the last log line is older than so
#: many seconds.
_TOLD_AGAIN_SECONDS = 10.0


class DatabaseCheck:
    """Takes a connection of ``pool`` and asks it one question.

    :param timeout_seconds: how long it waits for a connection.
    """

    def __init__(self, pool: SharedPool, *, timeout_seconds: float = 0.9) -> None:
        self._pool = pool
        self._timeout_seconds = timeout_seconds

    async def ask(self) -> None:
        """
        :raises PoolExhausted: all connections are in use. That is load: taking a loaded pod out of
            service would only move the load.
        :raises DatabaseUnavailable: the database does not answer, or the pool has no connection.
        """
        if self._all_in_use():
            raise PoolExhausted
        try:
            with translated_faults():
                async with self._pool.connection(timeout=self._timeout_seconds) as connection:
                    await connection.execute("SELECT 1", prepare=False)
        except PoolExhausted as error:
            if self._all_in_use():
                raise
            raise DatabaseUnavailable from error.__cause__
        except DatabaseUnavailable:
            if self._pool.fault is not None:
                # The error of connecting is nearer to the cause than the error of the check.
                raise DatabaseUnavailable from DatabaseAway(self._pool.fault)
            raise

    def _all_in_use(self) -> bool:
        figures = self._pool.figures()
        return figures.in_use >= figures.max_size


class DatabaseProbe:
    """Asks ``check`` every ``interval_seconds`` and remembers whether the database answers.

    A dead database shows after at most two intervals and two timeouts; a live one at the next
    success. A check that raises :class:`PoolExhausted` leaves the verdict as it is.
    """

    def __init__(
        self,
        check: DatabaseCheck,
        *,
        supervision: Supervision | None = None,
        interval_seconds: float = 0.5,
        timeout_seconds: float = 1.0,
    ) -> None:
        self._check = check
        self._interval_seconds = interval_seconds
        self._timeout_seconds = timeout_seconds
        # A frozen server can hold a check beyond its timeout, because cancelling a query waits for
        # the server.
        self._silence_seconds = _FAILURES_UNTIL_UNREACHABLE * (interval_seconds + timeout_seconds)
        self._failures = 0
        self._word = ""
        self._told = ("", 0.0)
        self._ended_at = monotonic()
        self._tasks = Tasks(supervision)

    @property
    def problem(self) -> str | None:
        """Why the database cannot be used, or None."""
        failed = self._failures >= _FAILURES_UNTIL_UNREACHABLE
        silent = monotonic() - self._ended_at > self._silence_seconds
        if not (failed or silent):
            return None
        word = public_reason(self._word) if failed else ""
        return f"the database does not answer: {word}" if word else "the database does not answer"

    async def start(self) -> None:
        self._ended_at = monotonic()
        self._tasks.keep(self._repeat, name="database-probe")

    async def stop(self) -> None:
        await self._tasks.stop()

    async def _repeat(self) -> None:
        while True:
            await self._probe()
            self._ended_at = monotonic()
            await asyncio.sleep(self._interval_seconds)

    async def _probe(self) -> None:
        try:
            with translated_faults():
                async with asyncio.timeout(self._timeout_seconds):
                    await self._check.ask()
        except PoolExhausted:
            return
        except (HeadraceError, OSError) as error:
            self._failures += 1
            self._word = _reason_for(error)
            if self._failures >= _FAILURES_UNTIL_UNREACHABLE:
                self._tell()
        else:
            if self._failures >= _FAILURES_UNTIL_UNREACHABLE:
                _log.info("database_found")
            self._failures, self._told = 0, ("", 0.0)

    def _tell(self) -> None:
        """Log the driver's text once, and again if it changes, but not too often."""
        word, at = self._told
        if not at or (word != self._word and monotonic() - at > _TOLD_AGAIN_SECONDS):
            _log.error("database_lost", error=self._word or "it does not answer")
            self._told = (self._word, monotonic())


def _reason_for(error: BaseException) -> str:
    """The driver's own text, from the end of the chain of causes; empty if there is none."""
    if error.__cause__ is not None:
        cause = error.__cause__
        return driver_reason(cause) if str(cause) else ""
    return "" if isinstance(error, HeadraceError) else driver_reason(error)


class SchemaProbe:
    """Reads the schema's state every ``interval_seconds`` and remembers what it saw last.

    While this release serves, a later release may migrate the schema and make it unusable here. A
    reading that fails changes nothing: :class:`DatabaseProbe` decides whether the database answers.
    """

    def __init__(
        self,
        pool: SharedPool,
        found: SchemaState,
        *,
        supervision: Supervision | None = None,
        interval_seconds: float = 15.0,
        acquire_timeout_seconds: float = 4.0,
        timeout_seconds: float = 5.0,
    ) -> None:
        self._pool = pool
        self._found = found
        self._interval_seconds = interval_seconds
        self._acquire_timeout_seconds = acquire_timeout_seconds
        self._timeout_seconds = timeout_seconds
        self._tasks = Tasks(supervision)

    @property
    def problem(self) -> str | None:
        """Why this release cannot serve on the schema, or None."""
        return self._found.problem

    @property
    def revision(self) -> str | None:
        return self._found.current

    async def start(self) -> None:
        self._tasks.keep(self._repeat, name="schema-probe", vital=False)

    async def stop(self) -> None:
        await self._tasks.stop()

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(self._interval_seconds)
            await self._probe()

    async def _probe(self) -> None:
        try:
            with translated_faults():
                async with asyncio.timeout(self._timeout_seconds):
                    found = await read_state(
                        self._pool, timeout_seconds=self._acquire_timeout_seconds
                    )
        except (HeadraceError, OSError):
            return
        except Exception:
            # Perhaps the role has lost a right. The probe must go on.
            _log.exception("schema_not_read")
            return
        if found.problem is not None and self._found.problem is None:
            _log.error("schema_unfit", reason=found.problem)
        elif found.problem is None and self._found.problem is not None:
            _log.info("schema_fit_again", revision=found.current)
        self._found = found


class DatabaseQuestion:
    """Asks the database once for all callers that ask at the same time.

    Callers need no key for it. However many ask, one connection is used.
    """

    def __init__(self, pool: SharedPool, tasks: Tasks, *, timeout_seconds: float = 2.0) -> None:
        self._pool = pool
        self._tasks = tasks
        self._timeout_seconds = timeout_seconds
        self._asking: asyncio.Task[Unavailable | None] | None = None

    async def ask(self) -> None:
        """:raises Unavailable: the database does not answer, or the pool has no connection."""
        if self._asking is None or self._asking.done():
            self._asking = self._tasks.start(self._ask(), name="database-question")
        problem = await asyncio.shield(self._asking)
        if problem is not None:
            raise type(problem)(problem.message)

    async def _ask(self) -> Unavailable | None:
        try:
            with translated_faults():
                async with (
                    asyncio.timeout(self._timeout_seconds),
                    self._pool.connection(timeout=self._timeout_seconds) as connection,
                ):
                    await connection.execute("SELECT 1", prepare=False)
        except Unavailable as problem:
            return problem
        return None
