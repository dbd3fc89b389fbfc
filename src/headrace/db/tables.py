"""The models of headrace's own tables. ``alembic check`` compares them with the database.

LangGraph's tables (checkpoints and store) have no models: their revisions create them exactly as
LangGraph does.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from headrace.db.table_base import Base, Dated, Owned, json_object

#: The statuses of an ended run. A CHECK ties them to ``ended_at``.
TERMINAL = "('success', 'error', 'timeout', 'interrupted')"


class _Configured:
    """The content of an assistant, and of each of its versions."""

    graph_id: Mapped[str]
    name: Mapped[str]
    description: Mapped[str | None]
    config: Mapped[dict[str, Any]] = json_object()
    context: Mapped[dict[str, Any]] = json_object()
    metadata_: Mapped[dict[str, Any]] = mapped_column(
        "metadata", server_default=text("'{}'::jsonb")
    )


class AssistantRow(_Configured, Owned, Dated, Base):
    """A graph with a configuration. The server creates one assistant for each graph.

    Runs read this row. Its ``version`` need not be the newest version of the assistant.
    """

    __tablename__ = "assistants"
    __table_args__ = (Index("assistants_graph_id_idx", "tenant", "graph_id"),)

    assistant_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(server_default=text("1"))


class AssistantVersionRow(_Configured, Base):
    """One version of an assistant. A version never changes."""

    __tablename__ = "assistant_versions"

    assistant_id: Mapped[UUID] = mapped_column(
        ForeignKey("assistants.assistant_id", ondelete="CASCADE"), primary_key=True
    )
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ThreadRow(Owned, Dated, Base):
    """A conversation. Its values are in checkpoints. This row says which run has the thread.

    ``running_run_id`` is the run that has the thread; it changes only under the lock of this row.
    ``ready_at`` is set exactly when no run has the thread and a pending run waits. From that time
    on, a process may claim ``ready_run_id``, the first pending run. The fillfactor of 85 leaves
    space for HOT updates. SQLAlchemy 2.0 cannot express it, so only the revision has it.
    """

    __tablename__ = "threads"
    __table_args__ = (
        CheckConstraint("char_length(thread_id) BETWEEN 1 AND 255", name="thread_id_length"),
        CheckConstraint("status IN ('idle', 'busy', 'interrupted', 'error')", name="status"),
        CheckConstraint("running_run_id IS NULL OR status = 'busy'", name="running_is_busy"),
        CheckConstraint("ttl_strategy IN ('delete', 'keep_latest')", name="ttl_strategy"),
        # Starts and ends of runs must stay HOT updates. So no index contains a column that every
        # run changes (status, updated_at, ...). Lists do not show temporary threads.
        Index(
            "threads_newest_idx",
            "tenant",
            text("created_at DESC"),
            "thread_id",
            postgresql_include=["graph_id", "assistant_id"],
            postgresql_where=text("NOT temporary"),
        ),
        # For callers that see their own threads only.
        Index(
            "threads_owner_idx",
            "tenant",
            "owner",
            text("created_at DESC"),
            "thread_id",
            postgresql_where=text("NOT temporary AND owner <> 'anonymous'"),
        ),
        Index(
            "threads_halted_status_idx",
            "tenant",
            "halted_status",
            text("created_at DESC"),
            "thread_id",
            postgresql_where=text("NOT temporary"),
        ),
        Index(
            "threads_metadata_idx",
            "metadata",
            postgresql_using="gin",
            postgresql_ops={"metadata": "jsonb_path_ops"},
            # A search reads the whole pending list, so the list must stay short.
            postgresql_with={"gin_pending_list_limit": 256},
            postgresql_where=text("NOT temporary"),
        ),
        Index("threads_temporary_idx", "thread_id", postgresql_where=text("temporary")),
        Index("threads_sweep_at_idx", "sweep_at", postgresql_where=text("sweep_at IS NOT NULL")),
        # There is no index on running_run_id: so a run that starts and ends in place changes no
        # index.
        Index("threads_ready_at_idx", "ready_at", postgresql_where=text("ready_at IS NOT NULL")),
        Index(
            "threads_ready_caller_idx",
            "ready_caller",
            "ready_at",
            postgresql_where=text("ready_at IS NOT NULL"),
        ),
    )

    thread_id: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(server_default=text("'idle'"))
    running_run_id: Mapped[UUID | None]
    ready_at: Mapped[datetime | None]
    ready_run_id: Mapped[UUID | None]
    ready_graph_id: Mapped[str | None]
    ready_caller: Mapped[str] = mapped_column(
        server_default=text("''"), comment="caller of the run that may be claimed; else empty"
    )
    temporary: Mapped[bool] = mapped_column(
        server_default=text("false"), comment="made for a stateless run and deleted after it"
    )
    metadata_: Mapped[dict[str, Any]] = mapped_column(
        "metadata", server_default=text("'{}'::jsonb")
    )
    config: Mapped[dict[str, Any]] = json_object()
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    interrupts: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    state_updated_at: Mapped[datetime | None]
    halted_status: Mapped[str | None] = mapped_column(
        comment="status, where that is error or interrupted; written by a trigger"
    )
    graph_id: Mapped[str | None] = mapped_column(
        comment="that of metadata, for lists; written by a trigger"
    )
    assistant_id: Mapped[str | None] = mapped_column(
        comment="that of metadata, for lists; written by a trigger"
    )
    watched_until: Mapped[datetime | None] = mapped_column(
        comment="until then somebody wants the events of all its runs stored"
    )
    ttl_minutes: Mapped[float | None]
    ttl_strategy: Mapped[str | None]
    sweep_at: Mapped[datetime | None] = mapped_column(
        comment="when to look whether its time to live is over; runs do not change it"
    )
    pruned_at: Mapped[datetime | None]


class RunRow(Owned, Dated, Base):
    """One execution of an assistant on a thread.

    ``attempt`` rises at every start and never falls. With ``run_id`` and ``process_id`` it is the
    fencing token. ``failures`` counts the processes that were lost while they executed the run, if
    the run may be the cause. ``lived_seconds`` says how long it had been executed then. A run with
    ``after_seconds`` is pending, with a ``created_at`` in the future.
    """

    __tablename__ = "runs"
    __table_args__ = (
        CheckConstraint(f"status IN ('pending', 'running') OR status IN {TERMINAL}", name="status"),
        CheckConstraint(f"(ended_at IS NOT NULL) = (status IN {TERMINAL})", name="ended"),
        CheckConstraint(
            "status <> 'running' OR (started_at IS NOT NULL AND process_id IS NOT NULL)",
            name="running_is_owned",
        ),
        CheckConstraint("status <> 'pending' OR process_id IS NULL", name="pending_is_free"),
        CheckConstraint("attempt >= 0 AND failures >= 0", name="counts"),
        CheckConstraint(
            "cancel_action IN ('interrupt', 'rollback', 'delete')", name="cancel_action"
        ),
        Index("runs_thread_id_run_id_idx", "thread_id", text("run_id DESC")),
        # Only a safety net: the row of the thread decides.
        Index(
            "runs_one_running_idx",
            "thread_id",
            unique=True,
            postgresql_where=text("status = 'running'"),
        ),
        Index(
            "runs_pending_idx",
            "thread_id",
            "created_at",
            postgresql_where=text("status = 'pending'"),
        ),
        Index("runs_process_id_idx", "process_id", postgresql_where=text("status = 'running'")),
        Index(
            "runs_suspected_idx",
            "run_id",
            postgresql_where=text("failures > 0 AND status IN ('pending', 'running')"),
        ),
        Index(
            "runs_deadline_idx",
            "thread_id",
            postgresql_where=text("status = 'pending' AND kwargs ? 'deadline_seconds'"),
        ),
    )

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    thread_id: Mapped[str] = mapped_column(ForeignKey("threads.thread_id", ondelete="CASCADE"))
    assistant_id: Mapped[UUID]
    graph_id: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=text("'pending'"))
    attempt: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    failures: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    lived_seconds: Mapped[float | None]
    process_id: Mapped[UUID | None]
    multitask_strategy: Mapped[str] = mapped_column(server_default=text("'enqueue'"))
    metadata_: Mapped[dict[str, Any]] = mapped_column(
        "metadata", server_default=text("'{}'::jsonb")
    )
    kwargs: Mapped[dict[str, Any]] = json_object()
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    cancel_action: Mapped[str | None] = mapped_column(
        comment="what its owner, or whoever takes it next, is asked to do with it"
    )
    request_id: Mapped[str | None] = mapped_column(
        comment="of the request that made it, for logs and graphs"
    )
    caller: Mapped[str] = mapped_column(
        server_default=text("''"), comment="with whom it shares places; part of a key's digest"
    )
    watched_until: Mapped[datetime | None] = mapped_column(
        comment="until then a process that does not execute it wants its events stored"
    )
    traceparent: Mapped[str | None] = mapped_column(
        comment="W3C trace context under which its attempts are traced"
    )
    earlier_attempts: Mapped[list[Any] | None] = mapped_column(
        JSONB(none_as_null=True),
        comment="attempts before the present one: process, times, how each ended",
    )
    cancel_asked_at: Mapped[datetime | None] = mapped_column(
        comment="when it was first asked to stop"
    )
    cancel_reason: Mapped[str | None] = mapped_column(
        comment="why it was asked to stop, e.g. client or next_run"
    )
    cancel_note: Mapped[str | None] = mapped_column(
        comment="why, in the words of the client who asked"
    )
    error_cause: Mapped[str | None] = mapped_column(
        comment="why it ended as error or timeout, e.g. graph or platform"
    )
    interrupts: Mapped[list[Any] | None] = mapped_column(
        JSONB(none_as_null=True), comment="interrupts that it has left: id and node of each"
    )
    webhook: Mapped[str | None] = mapped_column(
        comment="that of kwargs, who is told of its end; written by a trigger"
    )


class RunEventRow(Base):
    """Stored events of runs, for readers in other processes and for later readers.

    There is no foreign key. Events are deleted in batches some time after the end of the run, or
    together with the run.
    """

    __tablename__ = "run_events"

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    event_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    attempt: Mapped[int] = mapped_column(Integer)
    event: Mapped[str]
    data: Mapped[bytes] = mapped_column(LargeBinary, comment="JSON text")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RunUsageRow(Owned, Base):
    """The tokens that one attempt of a run has used with one model.

    There is no foreign key: a report still counts runs and threads that are deleted.
    """

    __tablename__ = "run_usage"
    __table_args__ = (
        Index("run_usage_created_at_idx", "created_at"),
        # For the budget of a thread.
        Index("run_usage_thread_id_idx", "thread_id"),
    )

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    model: Mapped[str] = mapped_column(primary_key=True)
    thread_id: Mapped[str]
    assistant_id: Mapped[UUID]
    graph_id: Mapped[str]
    calls: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    input_tokens: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    output_tokens: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    cached_tokens: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    reasoning_tokens: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class WebhookDeliveryRow(Owned, Base):
    """The message about the end of a run, for the receiver that the run names.

    There is no foreign key: a message outlives its run and its thread. A trigger makes it due in
    the transaction that ends the run.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint("state IN ('staged', 'due', 'sent', 'dead')", name="state"),
        CheckConstraint(
            "state <> 'due' OR (due_at IS NOT NULL AND run IS NOT NULL)", name="due_is_whole"
        ),
        Index("webhook_deliveries_due_at_idx", "due_at", postgresql_where=text("state = 'due'")),
        Index("webhook_deliveries_created_at_idx", "created_at"),
    )

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    thread_id: Mapped[str]
    url: Mapped[str]
    receiver: Mapped[str] = mapped_column(
        server_default=text("''"), comment="host and port of the URL; the bound of calls counts it"
    )
    state: Mapped[str] = mapped_column(server_default=text("'staged'"))
    attempt: Mapped[int] = mapped_column(
        Integer, server_default=text("0"), comment="attempt of the run that has left the result"
    )
    run: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB(none_as_null=True), comment="the run at its end; NULL before it, and when sent"
    )
    result: Mapped[bytes | None] = mapped_column(
        LargeBinary, comment="JSON text: values and interrupts that the run has left"
    )
    tries: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    problem: Mapped[str | None] = mapped_column(comment="why the last call has failed")
    due_at: Mapped[datetime | None] = mapped_column(
        comment="when it is sent next; while it is sent, when others may"
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    settled_at: Mapped[datetime | None]


class IdempotencyKeyRow(Base):
    """The run or thread that a request with an ``Idempotency-Key`` has created."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        Index("idempotency_keys_created_at_idx", "created_at"),
        # Finds the key of an ended run.
        Index("idempotency_keys_run_id_idx", "run_id"),
    )

    tenant: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True, comment="with the owner, if it has a name")
    key: Mapped[str] = mapped_column(primary_key=True)
    body_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    run_id: Mapped[UUID | None]
    thread_id: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    owner: Mapped[str | None]
