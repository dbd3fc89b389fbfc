"""The lease of this process: one row. A separate thread renews it over a separate connection.

So neither a busy pool nor a busy event loop lets the lease expire. But an event loop that has been
silent for ``loop_stall_limit_seconds`` executes nothing: then the thread stops renewing, and other
processes take the runs. The clock of the database decides when a lease has expired. This process
counts its deadline from the moment before it sends a renewal. So it stops its runs before another
process may take them.

A lease belongs to a timeline of the server. A promoted standby, or a restored backup, has another
one, and may lack commits that were acknowledged to this process. So the lease is lost then, and the
runs go on from the checkpoints that are there (ADR 30).
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any
from uuid import UUID

import psycopg
import structlog

from headrace.db.faults import DATABASE_ERRORS
from headrace.db.logins import Login
from headrace.db.probe import silent_server, unreachable
from headrace.db.statements import use_schema
from headrace.db.time_limit import cut_after
from headrace.error_text import error_message, first_line
from headrace.ids import uuid7
from headrace.lifecycle import Signal, Supervision, Tasks
from headrace.observability.process import process_place
from headrace.queue.ends import queue_statements
from headrace.setting_groups import WorkerSettings
from headrace.worker.deaths import LifePlace

_log = structlog.stdlib.get_logger("headrace.heartbeat")

_TICK_SECONDS = 0.25


class _Silent(psycopg.OperationalError):
    """The server, or a pooler, did not answer in time; it may answer later."""


class Heartbeat:
    """The lease of one process; after each loss the process gets a new id.

    :param graph_ids: the graphs that this process executes, for other processes; None: unknown.
    :param place: where the master reads under which ids runs began here, should this process die;
        None: it has no such place.
    :param schema: the schema of the tables; empty: the search path of the role.
    :param timeline_fence: whether the lease ends with the timeline of the server.
    :param open_timeout_seconds: how long the database may take to answer at start.
    """

    def __init__(
        self,
        login: Login,
        settings: WorkerSettings,
        *,
        supervision: Supervision | None = None,
        graph_ids: Sequence[str] | None = None,
        place: LifePlace | None = None,
        schema: str = "",
        timeline_fence: bool = True,
        open_timeout_seconds: float = 15.0,
    ) -> None:
        self._login = login
        self._schema = schema
        self._place = place
        self._timeline_fence = timeline_fence
        self._graph_ids = None if graph_ids is None else list(graph_ids)
        self._settings = settings
        #: How long the database may take to answer; after the start, half of the lease time.
        self._answer_seconds = open_timeout_seconds
        self._lost = Signal()
        self._sql = queue_statements()
        self._supervision = supervision or Supervision()
        self._tasks = Tasks(self._supervision)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._connection: psycopg.Connection[Any] | None = None
        #: How often this has connected. A new connection may reach a standby after a failover.
        self.connections = 0
        self._process_id: UUID | None = None
        self._deadline = 0.0
        #: Why the deadline is over, if it is.
        self._end_reason = "deadline_passed"
        self._unbroken_since = 0.0
        self._loop_seen = 0.0

    @property
    def process_id(self) -> UUID | None:
        """The owner of runs that start now; None while this process holds no lease."""
        return self._process_id

    @property
    def lease_left_seconds(self) -> float | None:
        """Seconds until this process stops its runs, if it renews its lease no more; None: it has
        no lease.
        """
        if self._process_id is None:
            return None
        return max(0.0, self._deadline - time.monotonic())

    @property
    def judges_others(self) -> bool:
        """Whether this process has renewed its lease for a whole lease time without a break.

        After an outage of the database, all leases look expired. The first process that reconnects
        must not take the runs of all other processes.
        """
        unbroken = time.monotonic() - self._unbroken_since
        return self._process_id is not None and unbroken >= self._settings.lease_seconds

    async def start(self) -> None:
        """Register this process and begin to renew.

        :raises StartupRefusal: HR301 the row could not be written.
        """
        self._loop_seen = time.monotonic()
        seconds = self._answer_seconds
        try:
            await asyncio.to_thread(self._register)
        except _Silent:
            raise silent_server(self._login.conninfo, seconds) from None
        except DATABASE_ERRORS as error:
            await asyncio.to_thread(self._disconnect)
            raise unreachable(self._login.conninfo, error) from None
        self._answer_seconds = self._settings.lease_seconds / 2
        self._tasks.keep(self._watch, name="heartbeat-watch")
        self._thread = threading.Thread(
            target=self._renew_until_stopped, name="headrace-heartbeat", daemon=True
        )
        self._thread.start()

    def retire(self) -> None:
        """Name no graphs under an id that this process may get from now on: it drains."""
        self._graph_ids = []

    async def until_lost(self) -> None:
        """Wait for the next loss of the lease: then the runs that began under it must stop."""
        await self._lost.wait()
        self._lost.clear()

    async def stop(self) -> None:
        """Give the lease back. Call this after all runs have ended."""
        await self._tasks.stop()
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, self._settings.lease_seconds)
            self._thread = None

    async def _watch(self) -> None:
        """Show that the event loop lives, and notice when the deadline has passed."""
        while True:
            self._loop_seen = time.monotonic()
            if self._process_id is not None and self._loop_seen > self._deadline:
                self._lose(self._end_reason)
            await asyncio.sleep(_TICK_SECONDS)

    def _lose(self, reason: str) -> None:
        if self._process_id is None:
            return
        _log.error("lease_lost", process_id=str(self._process_id), reason=reason)
        self._process_id = None
        self._lost.set()

    def _renew_until_stopped(self) -> None:
        loop_silent = False
        while not self._stop.wait(self._settings.heartbeat_seconds):
            silence = time.monotonic() - self._loop_seen
            if silence > self._settings.loop_stall_limit_seconds:
                if not loop_silent:
                    _log.error("event_loop_silent", seconds=round(silence, 1))
                loop_silent = True
                continue
            loop_silent = False
            try:
                if self._process_id is None:
                    self._register()
                else:
                    self._renew(self._process_id)
            except psycopg.Error as error:
                _log.warning("lease_not_renewed", error=str(error).strip())
                self._unbroken_since = time.monotonic() + self._settings.heartbeat_seconds
                self._disconnect()
            except Exception as error:
                # For example, no file descriptor is left. This thread must go on.
                _log.warning("lease_not_renewed", error=error_message(error), exc_info=True)
                self._supervision.report("heartbeat", error)
                self._unbroken_since = time.monotonic() + self._settings.heartbeat_seconds
                self._disconnect()
        self._remove()

    def _connect(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            lease_milliseconds = int(self._settings.lease_seconds * 1000)
            self._connection = self._login.connect_blocking(
                autocommit=True,
                prepare_threshold=None,
                connect_timeout=max(2, int(self._settings.lease_seconds / 2)),
                tcp_user_timeout=lease_milliseconds // 2,
            )
            use_schema(self._connection, self._schema)
            self.connections += 1
        return self._connection

    def _execute(self, name: str, parameters: dict[str, Any]) -> psycopg.Cursor[Any]:
        """Execute a statement of the queue.

        :raises _Silent: the server did not answer in time.
        """
        connection = self._connect()
        with cut_after(connection, self._answer_seconds) as limit:
            try:
                return connection.execute(self._sql[name], parameters)
            except psycopg.OperationalError as error:
                if limit.passed:
                    raise _Silent(f"no answer within {self._answer_seconds:.1f} s") from error
                raise

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _register(self) -> None:
        process_id = uuid7()
        self._connect()
        timeline = self._timeline()
        sent = time.monotonic()
        self._execute(
            "register_process",
            {
                "process_id": process_id,
                **process_place(),
                "version": version("headrace"),
                "lease_seconds": self._settings.lease_seconds,
                "graph_ids": self._graph_ids,
                "timeline": timeline,
            },
        )
        self._end_reason = "deadline_passed"
        self._deadline = sent + self._settings.lease_seconds
        self._unbroken_since = sent
        if self._place is not None:
            # Before a run can begin under this id.
            self._place.note(process_id)
        self._process_id = process_id
        _log.info("process_registered", process_id=str(process_id), timeline=timeline)

    def _timeline(self) -> str | None:
        """The present timeline of the server; None if it does not tell, or is not to be asked."""
        if not self._timeline_fence:
            return None
        try:
            row = self._execute("timeline", {}).fetchone()
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            # Some servers that speak Postgres's protocol do not have the functions.
            _log.warning("timeline_unknown", error=first_line(error))
            return None
        return None if row is None else str(row[0])

    def _renew(self, process_id: UUID) -> None:
        self._connect()
        sent = time.monotonic()
        renewed = self._execute("renew_process_if_not_lost", {"process_id": process_id}).fetchone()
        if renewed is not None:
            self._deadline = sent + self._settings.lease_seconds
            return
        # Another process has marked this process as lost, its row is gone, or the server has
        # another timeline. ``_watch`` reports the loss, and the next round registers a new id.
        row = self._execute("left_behind", {"process_id": process_id}).fetchone()
        self._end_reason = "timeline_changed" if row is not None and row[0] else "marked_lost"
        self._deadline = 0.0

    def _remove(self) -> None:
        if self._process_id is None:
            self._disconnect()
            return
        try:
            self._execute("remove_process", {"process_id": self._process_id})
        except psycopg.Error as error:
            _log.warning("process_not_removed", error=str(error).strip())
        else:
            if self._place is not None:
                self._place.leave()
        self._process_id = None
        self._disconnect()
