"""What the models of headrace's tables have in common."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, MetaData, Text, Uuid, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The base of all models: names of constraints, and types of columns."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "fk": "%(table_name)s_%(column_0_name)s_fkey",
            "ix": "%(table_name)s_%(column_0_name)s_idx",
            "ck": "%(table_name)s_%(constraint_name)s_check",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's declarative protocol
        dict[str, Any]: JSONB,
        datetime: DateTime(timezone=True),
        str: Text,
        UUID: Uuid,
    }


class Owned:
    """Columns of rows that belong to a tenant."""

    tenant: Mapped[str] = mapped_column(server_default=text("'default'"))
    owner: Mapped[str] = mapped_column(server_default=text("'anonymous'"))


class Dated:
    """When a row was made, and changed last."""

    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


def json_object() -> Mapped[dict[str, Any]]:
    """A column with an object; ``{}`` by default."""
    return mapped_column(server_default=text("'{}'::jsonb"))
