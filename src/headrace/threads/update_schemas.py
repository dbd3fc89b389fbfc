"""Changes of a thread's state on the wire."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

#: More are better sent as several threads' worth of requests: they are one transaction.
MAX_SUPERSTEPS = 1000


class StateCommand(BaseModel):
    """What a node may answer in place of values."""

    model_config = ConfigDict(extra="ignore")

    resume: Any = None
    update: dict[str, Any] | list[Any] | None = None
    goto: Any = None


class NodeValues(BaseModel):
    """What a node is to have written; the last one that ran when none is named."""

    model_config = ConfigDict(extra="ignore")

    values: dict[str, Any] | list[Any] | None = None
    as_node: str | None = Field(None, max_length=1000)


class StateChange(NodeValues):
    """One of those that are made side by side."""

    command: StateCommand | None = None


class Superstep(BaseModel):
    """What nodes are to have written side by side."""

    model_config = ConfigDict(extra="ignore")

    updates: list[StateChange] = Field(min_length=1, max_length=MAX_SUPERSTEPS)
