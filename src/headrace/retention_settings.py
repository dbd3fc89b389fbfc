"""The settings of the store, and of how long threads, runs and store items are kept."""

from typing import Literal

from pydantic import Field, field_validator

from headrace.setting_groups import Group

#: A century, in minutes: a later date may be out of range.
LONGEST_MINUTES = 100 * 366 * 24 * 60


class StoreSettings(Group):
    """The store that graphs and the API share: limits and timeouts."""

    operation_timeout_seconds: float = Field(
        10.0,
        gt=0,
        description="Reads and writes of the store without an answer for this long are repeated.",
    )
    retry_seconds: float = Field(
        30.0,
        ge=0,
        description="How long a node's reads and writes of the store are repeated while the"
        " database is away.",
    )
    request_timeout_seconds: float = Field(
        10.0, gt=0, description="How long a request to the API waits for the store; then 503."
    )

    max_namespace_depth: int = Field(20, ge=1, le=1000, description="Labels of a namespace.")
    max_path_bytes: int = Field(
        2000,
        ge=1,
        le=2600,
        description="Bytes of namespace and key together; Postgres's index takes no 2,700.",
    )
    max_value_bytes: int = Field(
        4 * 1024 * 1024, ge=2, description="Bytes of an item's value as JSON."
    )


class RetentionSettings(Group):
    """How long threads, runs and store items are kept (docs/retention.md).

    A setting wins over the value in `langgraph.json`.
    """

    thread_minutes: float | None = Field(
        None,
        ge=0,
        le=LONGEST_MINUTES,
        description="Minutes a thread is kept after its last use, unless it has a `ttl` of its own;"
        " 0: for ever. In place of `checkpointer.ttl.default_ttl`.",
    )
    thread_strategy: Literal["delete", "keep_latest"] | None = Field(
        None,
        description="What becomes of such a thread; `keep_latest` leaves its latest checkpoints and"
        " its newest run. In place of `checkpointer.ttl.strategy`.",
    )
    run_minutes: float = Field(
        0.0,
        ge=0,
        le=LONGEST_MINUTES,
        description="Minutes a run is kept after its end, with its input, on a thread that is kept;"
        " 0: as long as its thread.",
    )
    store_minutes: float | None = Field(
        None,
        ge=0,
        le=LONGEST_MINUTES,
        description="Minutes an item of the store is kept that was put without a `ttl`; 0: for"
        " ever. In place of `store.ttl.default_ttl`.",
    )
    store_refresh_on_read: bool | None = Field(
        None,
        description="Whether reading an item begins its time anew. In place of"
        " `store.ttl.refresh_on_read`.",
    )
    sweep_minutes: float | None = Field(
        None,
        gt=0,
        le=LONGEST_MINUTES,
        description="How often a process looks for threads, runs and items whose time is over. In"
        " place of both `sweep_interval_minutes`, which are 5.",
    )
    sweep_limit: int | None = Field(
        None,
        ge=1,
        description="Threads, and runs, that a process looks at each time. In place of"
        " `checkpointer.ttl.sweep_limit`, which is 1000.",
    )

    @field_validator("run_minutes")
    @classmethod
    def _longer_than_a_repeated_write(cls, value: float) -> float:
        if 0 < value < 1:
            raise ValueError("a run is kept for a minute or longer; 0 keeps it with its thread")
        return value
