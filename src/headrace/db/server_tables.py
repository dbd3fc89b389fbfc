"""The models of what headrace keeps for itself: processes, and what this database fits."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from headrace.db.table_base import Base


class ProcessRow(Base):
    """A server process that may own runs, and its lease.

    A renewal of the lease changes no indexed column, and finds free space on the page (fillfactor
    50). So it is a HOT update.
    """

    __tablename__ = "processes"

    process_id: Mapped[UUID] = mapped_column(primary_key=True)
    hostname: Mapped[str]
    pid: Mapped[int]
    version: Mapped[str]
    lease_seconds: Mapped[float]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    heartbeat_at: Mapped[datetime] = mapped_column(server_default=func.now())
    lost: Mapped[bool] = mapped_column(server_default=text("false"))
    graph_ids: Mapped[list[str] | None] = mapped_column(
        ARRAY(Text), comment="which graphs it executes; NULL where its release does not say"
    )
    timeline: Mapped[str | None] = mapped_column(
        comment="WAL timeline of the server where it registered; NULL: not known"
    )


class SchemaCompatRow(Base):
    """One row: the oldest revision whose release can still use this database."""

    __tablename__ = "schema_compat"
    __table_args__ = (CheckConstraint("only_row", name="one_row"),)

    only_row: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    min_revision: Mapped[str]


class StoreIndexRow(Base):
    """One row: which vectors the store's semantic index has. None without an index.

    ``rebuild`` says which vectors a reindex makes, and how far it has come.
    """

    __tablename__ = "store_index"
    __table_args__ = (CheckConstraint("only_row", name="one_row"),)

    only_row: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    dims: Mapped[int]
    vector_type: Mapped[str]
    embed: Mapped[str]
    fields: Mapped[list[Any]] = mapped_column(JSONB)
    rebuild: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class StoreIndexPathsRow(Base):
    """The paths that a put named for its item, in place of the fields of the index.

    Without them a reindex could not tell an item that is not to be found by meaning from one that
    was never indexed. Only the revision has the foreign key: the store has no model.
    """

    __tablename__ = "store_index_paths"

    prefix: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    paths: Mapped[list[Any]] = mapped_column(JSONB)
