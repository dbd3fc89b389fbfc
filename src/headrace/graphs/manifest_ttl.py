"""``checkpointer.ttl`` of ``langgraph.json``: how long threads are kept after their last use."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

#: A century, in minutes.
_LONGEST_MINUTES = 100 * 366 * 24 * 60


class TtlEntry(BaseModel):
    """Minutes. Threads with a time to live of their own go by that."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    strategy: Literal["delete", "keep_latest"] = "delete"
    default_ttl: float | None = Field(None, gt=0, le=_LONGEST_MINUTES)
    sweep_interval_minutes: float = Field(5.0, gt=0, le=_LONGEST_MINUTES)
    sweep_limit: int = Field(1000, ge=1)
