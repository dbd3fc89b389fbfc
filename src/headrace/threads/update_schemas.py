"""Changes of a thread's state on the wire."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from headrace.graphs.commands import GraphCommand

#: More are better sent as several threads' worth of requests: they are one transaction.
MAX_SUPERSTEPS = 1000
#: Where a list is the whole state: no more than a body holds anyway.
MAX_VALUES = 1_000_000


class NodeValues(BaseModel):
    """What a node is to have written; the last one that ran when none is named."""

    model_config = ConfigDict(extra="ignore")

    values: dict[str, Any] | Annotated[list[Any], Field(max_length=MAX_VALUES)] | None = None
    as_node: str | None = Field(None, max_length=1000)


class StateChange(NodeValues):
    """One of those that are made side by side."""

    command: GraphCommand | None = None

    @model_validator(mode="after")
    def _either(self) -> "StateChange":
        if self.values and self.command is not None:
            raise ValueError("send values or a command, not both: the command's update has values")
        return self


class Superstep(BaseModel):
    """What nodes are to have written side by side."""

    model_config = ConfigDict(extra="ignore")

    updates: Annotated[
        list[StateChange], Field(min_length=1, max_length=MAX_SUPERSTEPS, fail_fast=True)
    ]
