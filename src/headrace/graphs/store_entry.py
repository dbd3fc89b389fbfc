"""``store`` of ``langgraph.json``: how long items live. Its ``index`` is not read yet."""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from headrace.graphs.manifest_ttl import minutes_under
from headrace.retention_settings import LONGEST_MINUTES, RetentionSettings

if TYPE_CHECKING:
    # Its import would take a fifth of the start of every command, all of which read the manifest.
    from langgraph.store.base import TTLConfig

_SWEEP_MINUTES = 5.0


def _sweeping(minutes: Any) -> Any:
    return _SWEEP_MINUTES if minutes is None else minutes


class StoreTTL(BaseModel):
    """Minutes. ``default_ttl`` is given to items that come without; reading starts it anew."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    default_ttl: float | None = Field(None, gt=0, le=LONGEST_MINUTES)
    refresh_on_read: bool = True
    sweep_interval_minutes: Annotated[
        float, Field(gt=0, le=LONGEST_MINUTES), BeforeValidator(_sweeping)
    ] = _SWEEP_MINUTES

    def under(self, settings: RetentionSettings) -> "StoreTTL":
        """The entry as it holds: what the settings say wins, word by word."""
        refresh = settings.store_refresh_on_read
        return StoreTTL(
            default_ttl=minutes_under(settings.store_minutes, self.default_ttl),
            refresh_on_read=self.refresh_on_read if refresh is None else refresh,
            sweep_interval_minutes=settings.sweep_minutes or self.sweep_interval_minutes,
        )

    def as_config(self) -> "TTLConfig":
        """As stores take it. What has expired is not to be seen before it is swept."""
        return {
            "default_ttl": self.default_ttl,
            "refresh_on_read": self.refresh_on_read,
            "omit_expired": True,
        }


def _said(ttl: Any) -> Any:
    return {} if ttl is None else ttl


class StoreEntry(BaseModel):
    """What a manifest says of the store."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    ttl: Annotated[StoreTTL, BeforeValidator(_said)] = StoreTTL()
