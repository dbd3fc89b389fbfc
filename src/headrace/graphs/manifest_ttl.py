"""``checkpointer.ttl`` of ``langgraph.json``: how long threads are kept after their last use."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from headrace.retention_settings import LONGEST_MINUTES, RetentionSettings


class TtlEntry(BaseModel):
    """Minutes. Threads with a time to live of their own go by that."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    strategy: Literal["delete", "keep_latest"] = "delete"
    default_ttl: float | None = Field(None, gt=0, le=LONGEST_MINUTES)
    sweep_interval_minutes: float = Field(5.0, gt=0, le=LONGEST_MINUTES)
    sweep_limit: int = Field(1000, ge=1)

    def under(self, settings: RetentionSettings) -> "TtlEntry":
        """The entry as it holds: what the settings say wins, word by word."""
        return TtlEntry(
            strategy=settings.thread_strategy or self.strategy,
            default_ttl=minutes_under(settings.thread_minutes, self.default_ttl),
            sweep_interval_minutes=settings.sweep_minutes or self.sweep_interval_minutes,
            sweep_limit=settings.sweep_limit or self.sweep_limit,
        )


def minutes_under(setting: float | None, entry: float | None) -> float | None:
    """The setting, whose 0 is for ever; where it is not set, the entry."""
    return entry if setting is None else setting or None
