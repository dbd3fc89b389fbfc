"""The model of API keys."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, Index, LargeBinary, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from headrace.db.table_base import Base


class ApiKeyRow(Base):
    """A key of ``headrace keys create``. Nothing changes after that but the last two columns."""

    __tablename__ = "api_keys"
    __table_args__ = (
        Index("api_keys_prefix_idx", "prefix", unique=True),
        # For the removal of a tenant or an owner.
        Index("api_keys_tenant_idx", "tenant", "owner"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    #: It names the key, and is no secret.
    prefix: Mapped[str]
    #: The digest of the whole text.
    sha256: Mapped[bytes] = mapped_column(LargeBinary)
    name: Mapped[str] = mapped_column(server_default=text("''"))
    tenant: Mapped[str]
    owner: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked_at: Mapped[datetime | None]
    #: To the minute.
    last_used_at: Mapped[datetime | None]
