"""Changes of a thread's state that clients make themselves, without a run.

Like the start of a run, a change locks the row of the thread. It keeps the lock until the new
checkpoints and the row are committed together, so no run starts meanwhile. A process that dies
during a change leaves neither half a change nor a busy thread. The graph's reducers and edges run
under the lock. So a change has less time than a start waits for a locked thread.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeVar, cast
from uuid import UUID

import psycopg
import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.errors import EmptyInputError, InvalidUpdateError
from langgraph.types import StateUpdate
from psycopg.errors import LockNotAvailable
from psycopg.pq import TransactionStatus
from psycopg.types.json import Jsonb

from headrace.auth.principal import Principal
from headrace.auth.row_scope import scope_values, scoped_statements
from headrace.auth.store_scope import store_scope
from headrace.checkpoints.run_saver import RunSaver
from headrace.checkpoints.scoped_store import in_store_scope
from headrace.checkpoints.transaction import TransactionSaver
from headrace.checkpoints.writer import Writer
from headrace.containment import is_cancelled
from headrace.db.faults import DATABASE_ERRORS, caller_message
from headrace.db.pool import Connection, SharedPool
from headrace.db.receipts import Receipts
from headrace.db.transactions import locking_transaction
from headrace.error_text import error_message, error_name
from headrace.errors import (
    BadRequest,
    CheckpointNotFound,
    HeadraceError,
    InvalidRequest,
    ThreadBusy,
)
from headrace.events.json_encoding import storable
from headrace.graphs.commands import graph_command
from headrace.graphs.context import as_context, known_context, missing_names
from headrace.graphs.injected_runtime import runtime_for_update
from headrace.graphs.registry import Graph, GraphRegistry
from headrace.states.reader import config_of, interrupts_by_task, visible
from headrace.states.schemas import CheckpointRef, StateChange
from headrace.threads.repository import found
from headrace.threads.schemas import ThreadCreate
from headrace.unavailable_errors import DatabaseUnavailable, UpdateTooSlow

T = TypeVar("T")

_log = structlog.stdlib.get_logger("headrace.threads")

#: Less than the five seconds that a start waits for a locked thread.
_UPDATE_SECONDS = 4.0
#: Less than that: who waits for a lock is told so, and not that the change took too long.
_LOCK_TIMEOUT_SECONDS = 3.0

#: A refusal quotes so much of the message of a graph's exception.
_MAX_ERROR_BYTES = 2000

_NO_GRAPH = (
    "has no graph: it has had no run. Run one on it, or set 'graph_id' in its metadata, then try"
    " again."
)


class StateUpdates:
    """One per process. A change holds one connection until it is committed.

    :param timeout_seconds: how long the creation of a thread may take. A change of an existing
        thread has four seconds, if that is less.
    """

    def __init__(
        self,
        pool: SharedPool,
        writer: Writer,
        saver: RunSaver,
        registry: GraphRegistry,
        *,
        timeout_seconds: float = 10.0,
    ) -> None:
        self._pool = pool
        self._writer = writer
        self._saver = saver
        self._registry = registry
        self._timeout_seconds = timeout_seconds
        self._receipts = Receipts(pool)
        self._sql = scoped_statements("headrace.threads", "state.sql")
        self._transaction = partial(
            locking_transaction, pool, lock_timeout_seconds=_LOCK_TIMEOUT_SECONDS, pipelined=False
        )

    async def update(
        self,
        principal: Principal,
        thread_id: str,
        change: StateChange,
        checkpoint: CheckpointRef | None,
    ) -> dict[str, Any]:
        """Change the state at a checkpoint, or the latest one; returns the new checkpoint.

        :raises ThreadNotFound, CheckpointNotFound, AssistantNotFound: there is no such thread,
            checkpoint or graph.
        :raises ThreadBusy: a run has the thread, or another change locks it for too long.
        :raises BadRequest: the thread has no graph, or LangGraph refuses the update.
        :raises InvalidRequest: the graph does not take these values.
        :raises UpdateTooSlow: nothing has changed.
        """
        await self._writer.settled(thread_id)
        return await _repeated(lambda: self._update(principal, thread_id, change, checkpoint))

    async def _update(
        self,
        principal: Principal,
        thread_id: str,
        change: StateChange,
        checkpoint: CheckpointRef | None,
    ) -> dict[str, Any]:
        values = {"thread_id": thread_id, **scope_values(principal)}
        try:
            async with self._bounded(min(_UPDATE_SECONDS, self._timeout_seconds)) as connection:
                cursor = await connection.execute(self._sql["lock_thread"], values)
                graph_id, config, run_id = found(thread_id, await cursor.fetchone())
                if run_id is not None:
                    raise _busy(thread_id, run_id)
                if graph_id is None:
                    raise BadRequest(f"Thread {thread_id} {_NO_GRAPH}")
                where = config_of(thread_id, checkpoint)
                with in_store_scope(store_scope(principal)):
                    return await self._apply(
                        connection,
                        graph_id,
                        where,
                        [[_of(change)]],
                        config.get("configurable") or {},
                    )
        except LockNotAvailable as error:
            raise ThreadBusy(
                f"Thread {thread_id} is being worked on; try again in a moment."
            ) from error

    async def create(
        self,
        principal: Principal,
        thread_id: str,
        body: ThreadCreate,
    ) -> bool:
        """A new thread with the states that its supersteps make; False when the id is taken, by a
        thread or by checkpoints that the caller may not take.

        :raises BadRequest: the metadata names no graph, or LangGraph refuses an update.
        :raises AssistantNotFound: there is no such graph.
        :raises InvalidRequest: the graph does not take these values.
        :raises UpdateTooSlow: there is no new thread.
        """
        metadata = body.metadata or {}
        graph_id = metadata.get("graph_id")
        if not isinstance(graph_id, str):
            raise BadRequest(
                "supersteps need a graph: name it in the thread's metadata as 'graph_id'."
            )
        supersteps = [[_of(one) for one in step.updates] for step in body.supersteps or ()]
        values = {
            "thread_id": thread_id,
            "tenant": principal.tenant,
            "owner": principal.identity,
            "takes_strays": principal.takes_strays,
            "metadata": Jsonb(metadata),
            "ttl_minutes": None if body.ttl is None else body.ttl.ttl,
            "ttl_strategy": None if body.ttl is None else body.ttl.strategy,
        }
        return await _repeated(
            lambda: self._create(principal, thread_id, graph_id, values, supersteps)
        )

    async def _create(
        self,
        principal: Principal,
        thread_id: str,
        graph_id: str,
        values: dict[str, Any],
        supersteps: Sequence[Sequence[StateUpdate]],
    ) -> bool:
        try:
            async with self._bounded(self._timeout_seconds) as connection:
                cursor = await connection.execute(self._sql["create_thread"], values)
                if await cursor.fetchone() is None:
                    return False
                with in_store_scope(store_scope(principal)):
                    await self._apply(connection, graph_id, config_of(thread_id), supersteps, {})
        except LockNotAvailable:
            # Another request is creating a thread with this id now.
            return False
        return True

    @asynccontextmanager
    async def _bounded(self, seconds: float) -> AsyncIterator[Connection]:
        async with self._receipts.kept(self._transaction()) as connection:
            idle = {"idle": f"{int(seconds * 1000)}ms"}
            await connection.execute(self._sql["bound_transaction"], idle)
            owed = False

            def look() -> None:
                nonlocal owed
                owed = connection.info.transaction_status == TransactionStatus.ACTIVE

            # The loop calls it before the timeout, which ends the statement.
            looking = asyncio.get_running_loop().call_later(seconds, look)
            try:
                async with asyncio.timeout(seconds) as bound:
                    yield connection
            except TimeoutError as error:
                if not bound.expired():
                    raise
                late = UpdateTooSlow(
                    f"The change took longer than {seconds:g} s; nothing has changed. Send less at"
                    " once, or try again (setting requests.change_timeout_seconds)."
                )
                late.database_owed = owed
                raise late from error
            finally:
                looking.cancel()

    async def _apply(
        self,
        connection: Connection,
        graph_id: str,
        config: RunnableConfig,
        supersteps: Sequence[Sequence[StateUpdate]],
        configurable: dict[str, Any],
    ) -> dict[str, Any]:
        """Let the graph write the new checkpoints, then update the row of the thread."""
        saver = TransactionSaver(
            self._pool,
            connection,
            self._saver.serde,
            max_checkpoint_bytes=self._saver.max_checkpoint_bytes,
        )
        try:
            return await self._apply_with(
                saver, connection, graph_id, config, supersteps, configurable
            )
        finally:
            await saver.end()

    async def _apply_with(
        self,
        saver: TransactionSaver,
        connection: Connection,
        graph_id: str,
        config: RunnableConfig,
        supersteps: Sequence[Sequence[StateUpdate]],
        configurable: dict[str, Any],
    ) -> dict[str, Any]:
        where = config["configurable"]
        if where.get("checkpoint_id") and await saver.aget_tuple(config) is None:
            raise CheckpointNotFound(
                f"Thread {where['thread_id']} has no checkpoint {where['checkpoint_id']}; its"
                " history lists those it has."
            )
        made_for = cast("RunnableConfig", {"configurable": {**configurable, **where}})
        async with self._registry.for_run(graph_id, made_for, access="threads.update") as graph:
            graph = graph.copy(update={"checkpointer": saver})
            with _refusals(graph_id, where["thread_id"], connection):
                graph = graph.with_config(configurable=_wiring(graph, configurable))
                made = await graph.abulk_update_state(
                    {**config, "metadata": {"graph_id": graph_id}}, supersteps
                )
                snapshot = await graph.aget_state(config_of(where["thread_id"]))
        await connection.execute(
            self._sql["state_changed"],
            {
                "thread_id": where["thread_id"],
                "status": "interrupted" if snapshot.next else "idle",
                "interrupts": Jsonb(storable(interrupts_by_task(snapshot))),
            },
        )
        checkpoint = visible(made)
        _log.info("state_changed", graph_id=graph_id, **(checkpoint or {}))
        return checkpoint or {}


async def _repeated(change: Callable[[], Awaitable[T]]) -> T:
    """The result of ``change``. It is tried once more if its time was over while the database owed
    an answer: Postgres may have stood still.
    """
    try:
        return await change()
    except UpdateTooSlow as late:
        if not late.database_owed:
            raise
        _log.warning("change_repeated")
        return await change()


def _wiring(graph: Graph, configurable: dict[str, Any]) -> dict[str, Any]:
    """Store and context, as in a run: an edge behind the changed node may need them."""
    given, context = known_context(graph, configurable), None
    if given is not None and not missing_names(graph.context_schema, given):
        # A run without required context is refused; a change of state cannot send context.
        context = as_context(graph.context_schema, given)
    return runtime_for_update(graph.store, context)


@contextmanager
def _refusals(graph_id: str, thread_id: str, connection: Connection) -> Iterator[None]:
    """Refuse a request whose values make LangGraph, or the graph's own code, raise."""
    try:
        yield
    except (HeadraceError, psycopg.Error):
        raise
    except DATABASE_ERRORS:
        raise
    except (InvalidUpdateError, EmptyInputError) as error:
        raise BadRequest(error_message(error, max_bytes=_MAX_ERROR_BYTES)) from error
    except BaseException as error:
        if is_cancelled():
            # The time is over, and the cancelled code has raised another exception.
            raise asyncio.CancelledError from error
        if connection.closed:
            # The graph has failed because the connection broke, not over the values.
            raise DatabaseUnavailable from error
        _log.info("state_refused", graph_id=graph_id, thread_id=thread_id, exc_info=True)
        raise InvalidRequest(
            f"Graph '{graph_id}' does not take these values: {error_name(error)}:"
            f" {caller_message(error) or error_message(error, max_bytes=_MAX_ERROR_BYTES)}"
        ) from error


def _of(change: StateChange) -> StateUpdate:
    command = change.command
    if command is None:
        return StateUpdate(cast("dict[str, Any] | None", change.values), change.as_node)
    values = graph_command(resume=command.resume, update=command.update, goto=command.goto)
    return StateUpdate(cast("dict[str, Any]", values), change.as_node)


def _busy(thread_id: str, run_id: UUID) -> ThreadBusy:
    return ThreadBusy(
        f"Thread {thread_id} has a run in flight ({run_id}); wait for its end, or cancel it, then"
        " change the state."
    )
