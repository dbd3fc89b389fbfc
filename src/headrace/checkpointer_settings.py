"""The settings of the checkpointer: how checkpoints, run starts and run ends are committed."""

from typing import Literal

from pydantic import Field, field_validator

from headrace.setting_groups import Group, comma_separated


class CheckpointerSettings(Group):
    """How checkpoints, run starts and run ends reach the database (docs/checkpoint-engine.md)."""

    engine: Literal["group_commit", "upstream"] = Field(
        "group_commit",
        description="`group_commit`: concurrent writes share commits; `upstream`: LangGraph's own"
        " saver on the pool, each write alone and without the fence.",
    )
    lanes: int = Field(
        2,
        ge=1,
        description="Flushes in flight at once, at most: a further one begins only while the others"
        " take longer than 20 ms. Large values have one more of their own.",
    )
    linger_seconds: float = Field(
        0.005, ge=0, description="How long a write that nobody waits for yet may wait for others."
    )
    max_batch_operations: int = Field(
        256, ge=1, description="Writes that one flush carries at most."
    )
    max_batch_bytes: int = Field(
        4 * 1024 * 1024,
        ge=1024,
        description="Bytes that one flush carries, if it carries several operations.",
    )
    large_value_bytes: int = Field(
        1024 * 1024,
        ge=1024,
        description="Larger writes have a lane of their own, so that small ones do not wait for"
        " them.",
    )
    max_checkpoint_bytes: int = Field(
        128 * 1024 * 1024,
        ge=1024 * 1024,
        description="Bytes of one checkpoint's new values, or of what one task writes; a run with"
        " more ends as `error`.",
    )
    max_queued_operations: int = Field(
        10_000, ge=1, description="Writes queued in a process; further ones wait."
    )
    max_queued_bytes: int = Field(
        256 * 1024 * 1024, ge=1024, description="Bytes queued in a process; further writes wait."
    )
    lock_timeout_seconds: float = Field(
        2.0, gt=0, description="How long a flush waits for another transaction's row."
    )
    flush_timeout_seconds: float = Field(
        10.0,
        gt=0,
        description="A flush, or a read of latest checkpoints, without an answer for this long is"
        " repeated. It must be less than `retry_seconds`, else nothing is repeated.",
    )
    retry_seconds: float = Field(
        30.0, ge=0, description="How long a flush is repeated while the database is away."
    )
    slow_seconds: float = Field(
        1.0,
        ge=0,
        description="A write that takes this long until it is committed is logged as"
        " `checkpoint_slow` and counted; 0: headrace logs none.",
    )
    drain_seconds: float = Field(
        10.0, ge=0, description="How long a stopping process goes on committing what is queued."
    )
    channel_memory_bytes: int = Field(
        64 * 1024 * 1024,
        ge=0,
        description="Memory of a process for conversations of the built-in chat graph that it has"
        " read, so that a turn reads only what is new; 0: it reads all in each turn.",
    )
    channel_memory_seconds: float = Field(
        600.0,
        gt=0,
        description="A conversation that was not used for so long leaves that memory.",
    )
    read_batch: int = Field(
        64, ge=1, description="Latest checkpoints that one query reads at most."
    )
    allowed_msgpack_modules: str = Field(
        "",
        description="Types that runs may read from checkpoints besides those of langgraph.json,"
        " like `package.module:Type`, separated by commas (docs/serialization.md).",
    )

    @property
    def allowed_types(self) -> tuple[tuple[str, str], ...]:
        """Module and name of each type of the setting."""
        return tuple(map(_module_and_name, comma_separated(self.allowed_msgpack_modules)))

    @field_validator("allowed_msgpack_modules")
    @classmethod
    def _names_types(cls, value: str) -> str:
        for part in comma_separated(value):
            _module_and_name(part)
        return value


def _module_and_name(text: str) -> tuple[str, str]:
    """``package.module:Type`` or ``package.module.Type``, divided.

    :raises ValueError: it has another form.
    """
    module, _, name = text.replace(":", ".").rpartition(".")
    if not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise ValueError("each type has the form package.module:Type")
    return module, name
