"""The settings of events and of idempotency keys."""

from typing import Literal

from pydantic import Field

from headrace.setting_groups import Group


class EventSettings(Group):
    """The events of runs: kept for late readers, stored for other processes."""

    buffer_events: int = Field(
        4096,
        ge=16,
        description="A reader for which more events wait is cut once its client has taken nothing"
        " for `stall_seconds`. A run waits when so many of its events are not stored yet.",
    )
    buffer_bytes: int = Field(
        16 * 1024 * 1024, ge=65536, description="As `buffer_events`, but counted in bytes."
    )
    stall_seconds: float = Field(
        15.0,
        gt=0,
        description="How long a client that is behind may take nothing before it is cut. Also how"
        " long a run waits for its slow readers while `buffer_total_bytes` is exceeded.",
    )
    buffer_total_bytes: int = Field(
        128 * 1024 * 1024,
        ge=65536,
        description="Bytes that wait for all readers of a process. Above it a run waits for its own"
        " slow readers first, then readers are cut.",
    )
    ring_events: int = Field(
        1024, ge=1, description="Events of a run kept in memory for readers that come later."
    )
    ring_bytes: int = Field(
        1024 * 1024,
        ge=1024,
        description="Bytes of events of a run kept in memory for such readers.",
    )
    max_run_events: int = Field(
        1_000_000,
        ge=1,
        description="Events that one run may send to clients, or store for them; with more it ends"
        " as `error`.",
    )
    max_run_bytes: int = Field(
        2 * 1024 * 1024 * 1024,
        ge=65536,
        description="As `max_run_events`, but counted in bytes.",
    )
    batch_events: int = Field(
        200, ge=1, description="Events of a run that are stored, or read back, at once."
    )
    batch_bytes: int = Field(
        512 * 1024,
        ge=1024,
        description="Bytes of a run that are stored, or read back, at once, if several.",
    )
    keep_seconds: float = Field(
        600.0, ge=0, description="Stored events are deleted this long after their run ended."
    )
    sweep_seconds: float = Field(
        60.0, gt=0, description="How often a process looks for stored events to delete."
    )
    poll_seconds: float = Field(
        1.0,
        gt=0,
        description="How often followed runs, and requests to stop own ones, are looked up when no"
        " notice comes.",
    )
    watch_seconds: float = Field(
        30.0, ge=3, description="How long a run's events are stored after a watcher's last sign."
    )
    max_thread_streams: int = Field(
        1000,
        ge=1,
        description="Streams of whole threads in one process; more get 503, and a caller above its"
        " share 429.",
    )
    notices: Literal["auto", "off"] = Field(
        "auto",
        description="`auto`: LISTEN and NOTIFY where the connection is direct; `off`: polling.",
    )


class IdempotencySettings(Group):
    """Requests with an ``Idempotency-Key``."""

    keep_seconds: float = Field(
        86400.0,
        gt=0,
        description="A request that is sent again within this time makes nothing new.",
    )
    sweep_seconds: float = Field(600.0, gt=0, description="How often expired keys are deleted.")
    sweep_batch: int = Field(1000, ge=1, description="Keys that are deleted at once.")
