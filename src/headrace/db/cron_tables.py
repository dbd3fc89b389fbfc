"""The model of crons."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from headrace.db.table_base import Base, Dated, Owned, json_object


class CronRow(Owned, Dated, Base):
    """A schedule, and the run that it makes at each of its slots.

    ``next_run_date`` is the slot that comes next, in any process. The transaction that makes its
    run moves it on. ``look_at`` says when a process looks at the cron: at that time, or a moment
    later while a process makes the run.
    """

    __tablename__ = "crons"
    __table_args__ = (
        CheckConstraint("on_run_completed IN ('delete', 'keep')", name="on_run_completed"),
        CheckConstraint("enabled OR look_at IS NULL", name="disabled_is_left_alone"),
        Index("crons_look_at_idx", "look_at", postgresql_where=text("look_at IS NOT NULL")),
        Index("crons_created_at_idx", "tenant", "created_at", "cron_id"),
        Index("crons_owner_idx", "owner"),
        Index("crons_assistant_id_idx", "assistant_id"),
        # For the end of a thread. Most crons have none.
        Index("crons_thread_id_idx", "thread_id"),
    )

    cron_id: Mapped[UUID] = mapped_column(primary_key=True)
    assistant_id: Mapped[UUID]
    thread_id: Mapped[str | None] = mapped_column(
        ForeignKey("threads.thread_id", ondelete="CASCADE")
    )
    schedule: Mapped[str]
    timezone: Mapped[str | None]
    end_time: Mapped[datetime | None]
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    disabled_reason: Mapped[str | None] = mapped_column(
        comment="why headrace has disabled it; NULL: it is enabled, or a caller has"
    )
    on_run_completed: Mapped[str | None]
    payload: Mapped[dict[str, Any]] = json_object()
    headers: Mapped[dict[str, Any]] = mapped_column(
        server_default=text("'{}'::jsonb"),
        comment="of the request that made it, for configurable of its runs",
    )
    metadata_: Mapped[dict[str, Any]] = mapped_column(
        "metadata", server_default=text("'{}'::jsonb")
    )
    next_run_date: Mapped[datetime | None]
    look_at: Mapped[datetime | None] = mapped_column(
        comment="when a process looks at it; NULL: never"
    )
    caller: Mapped[str] = mapped_column(
        server_default=text("''"), comment="with whom its runs share places"
    )
    auth: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB(none_as_null=True), comment="what its runs keep of its caller; NULL: the owner alone"
    )
