"""States of threads in requests and answers."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from headrace.graphs.commands import GraphCommand
from headrace.ids import canonical_uuid, storable_id

#: The supersteps of a request are one transaction. A client with more of them sends more requests.
MAX_SUPERSTEPS = 1000
#: If a state is a list, it has at most so many values: a body holds no more.
MAX_VALUES = 1_000_000


class NodeValues(BaseModel):
    """Values as if a node had written them; without ``as_node`` it is the node that ran last."""

    model_config = ConfigDict(extra="ignore")

    values: dict[str, Any] | Annotated[list[Any], Field(max_length=MAX_VALUES)] | None = None
    as_node: str | None = Field(None, max_length=1000)


class StateChange(NodeValues):
    """One change of a superstep."""

    command: GraphCommand | None = None

    @model_validator(mode="after")
    def _either(self) -> "StateChange":
        if self.values and self.command is not None:
            raise ValueError("send values or a command, not both: the command's update has values")
        return self


class Superstep(BaseModel):
    """Changes as if nodes had made them in parallel."""

    model_config = ConfigDict(extra="ignore")

    updates: Annotated[
        list[StateChange], Field(min_length=1, max_length=MAX_SUPERSTEPS, fail_fast=True)
    ]


class ThreadState(BaseModel):
    """A thread at one checkpoint."""

    values: Any
    next: list[str]
    tasks: list[dict[str, Any]]
    metadata: dict[str, Any] | None
    created_at: str | None
    checkpoint: dict[str, Any] | None
    parent_checkpoint: dict[str, Any] | None
    interrupts: list[Any]
    checkpoint_id: str | None
    parent_checkpoint_id: str | None


#: The fields of a state that can be selected. ``values.<key>`` can also be selected.
StateField = Literal[
    "values",
    "next",
    "tasks",
    "metadata",
    "created_at",
    "checkpoint",
    "parent_checkpoint",
    "interrupts",
    "checkpoint_id",
    "parent_checkpoint_id",
]
_FIELDS = get_args(StateField)
_KEY = "values."
#: These fields need all channels: LangGraph derives them from the whole state.
_OF_ALL_CHANNELS = frozenset({"values", "next", "tasks", "interrupts"})

MAX_HISTORY = 1000
_MAX_WORDS = 100


def _selectable(words: list[str]) -> list[str]:
    for word in words:
        if word not in _FIELDS and not (word.startswith(_KEY) and word != _KEY):
            raise ValueError(f"'{word}' is not one of {', '.join(_FIELDS)}, values.<key>")
    return words


Select = Annotated[
    Annotated[
        list[Annotated[str, Field(max_length=1000)]], Field(max_length=_MAX_WORDS, fail_fast=True)
    ],
    AfterValidator(_selectable),
]


def _canonical(value: str) -> str:
    return canonical_uuid(value) or value


CheckpointId = Annotated[
    str,
    Field(min_length=1, max_length=255),
    AfterValidator(storable_id),
    AfterValidator(_canonical),
]


#: The place of a subgraph: the nodes and tasks that lead to it.
Namespace = Annotated[str, Field(max_length=10_000)]


class CheckpointRef(BaseModel):
    """A checkpoint of a thread: the latest one, a named one, or one of a subgraph."""

    model_config = ConfigDict(extra="ignore")

    thread_id: Annotated[str, Field(max_length=255)] | None = None
    checkpoint_ns: Namespace | None = None
    checkpoint_id: CheckpointId | None = None
    checkpoint_map: dict[Namespace, CheckpointId] | None = Field(None, max_length=100)


class StateQuery(BaseModel):
    """Which state, and which of its fields."""

    model_config = ConfigDict(extra="ignore")

    checkpoint: CheckpointRef
    subgraphs: bool = False
    select: Select | None = None


class StateUpdate(NodeValues):
    """What to change, and the checkpoint to start from."""

    checkpoint: CheckpointRef | None = None
    checkpoint_id: CheckpointId | None = None


class UpdatedState(BaseModel):
    """The checkpoint that a change has made, under each name that clients read."""

    checkpoint: dict[str, Any]
    configurable: dict[str, Any]
    checkpoint_id: str


def _checkpoint_id(value: Any) -> Any:
    """Clients send an id, a checkpoint, or a configuration that has one."""
    if not isinstance(value, dict):
        return value
    configurable = value.get("configurable")
    found = (configurable if isinstance(configurable, dict) else value).get("checkpoint_id")
    if found is None:
        raise ValueError(
            'send a checkpoint id, {"checkpoint_id": …} or {"configurable": {"checkpoint_id": …}}'
        )
    return found


class HistoryQuery(BaseModel):
    """Which states of a thread, newest first, and which of their fields."""

    model_config = ConfigDict(extra="ignore")

    limit: int = Field(1, ge=0, le=MAX_HISTORY)
    before: Annotated[CheckpointId, BeforeValidator(_checkpoint_id)] | None = None
    metadata: dict[str, Any] | None = None
    checkpoint: CheckpointRef | None = None
    select: Select | None = None


class ShownState(BaseModel):
    """A thread at one checkpoint; with ``select`` only the selected fields."""

    values: Any = None
    next: list[str] | None = None
    tasks: list[dict[str, Any]] | None = None
    metadata: dict[str, Any] | None = None
    created_at: str | None = None
    checkpoint: dict[str, Any] | None = None
    parent_checkpoint: dict[str, Any] | None = None
    interrupts: list[Any] | None = None
    checkpoint_id: str | None = None
    parent_checkpoint_id: str | None = None


def selected(state: dict[str, Any], select: list[str] | None) -> dict[str, Any]:
    """The selected fields of a state; without a selection, all fields."""
    if not select:
        return state
    shown = {word: state[word] for word in select if word in state}
    keys = [word.removeprefix(_KEY) for word in select if word.startswith(_KEY)]
    if keys and "values" not in shown:
        values = state["values"]
        held = values if isinstance(values, dict) else {}
        shown["values"] = {key: held[key] for key in keys if key in held}
    return shown


def channels_for(select: Sequence[str] | None) -> set[str] | None:
    """The channels that these fields need; None: all."""
    if not select or not _OF_ALL_CHANNELS.isdisjoint(select):
        return None
    return {word.removeprefix(_KEY) for word in select if word.startswith(_KEY)}


class Measured(BaseModel):
    """A number of things, and their bytes."""

    count: int
    bytes: int


class MeasuredChannel(BaseModel):
    versions: int
    bytes: int


class MeasuredChannels(Measured):
    by_channel: dict[str, MeasuredChannel]


class ThreadStorage(BaseModel):
    """The storage that the checkpoints of a thread take."""

    thread_id: str
    total_bytes: int
    checkpoints: Measured
    channel_values: MeasuredChannels
    pending_writes: Measured
