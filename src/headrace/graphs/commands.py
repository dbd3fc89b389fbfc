"""Commands of clients, LangGraph's form of them, and the nodes that a request names."""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, cast

from langgraph.constants import END
from langgraph.types import Command, Send
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from headrace.errors import InvalidRequest

#: Pairs of an update, and targets of a ``goto``.
MAX_PARTS = 1000


class GraphCommand(BaseModel):
    """``resume`` answers an interrupt, ``update`` changes the state, ``goto`` names what runs next.

    ``update`` is an object, or a list of [key, value] pairs. ``goto`` is a node's name,
    ``{"node", "input"}``, or a list of these. Unknown fields are ignored.
    """

    model_config = ConfigDict(extra="ignore")

    resume: Any = None
    update: dict[str, Any] | Annotated[list[Any], Field(max_length=MAX_PARTS)] | None = None
    goto: (
        Annotated[str, Field(max_length=1000)]
        | dict[str, Any]
        | Annotated[list[Any], Field(max_length=MAX_PARTS)]
        | None
    ) = None

    @model_validator(mode="before")
    @classmethod
    def _without_graph(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("graph") is not None:
            raise ValueError("graph: the graph of a run has no parent graph; leave it out")
        return value

    @field_validator("update")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        if isinstance(value, list) and not all(map(_is_pair, value)):
            raise ValueError("send an object, or a list of [key, value] pairs")
        return value

    @field_validator("goto")
    @classmethod
    def _targets(cls, value: Any) -> Any:
        for one in value if isinstance(value, list) else [] if value is None else [value]:
            if not isinstance(one, str) and not _is_send(one):
                raise ValueError(
                    'name a node, send {"node": name, "input": value}, or a list of these'
                )
        return value

    @model_validator(mode="after")
    def _says_something(self) -> "GraphCommand":
        if self.resume == {}:
            raise ValueError("resume: an empty object answers no interrupt; send the answer")
        if self.resume is None and not self.update and not self.goto:
            raise ValueError(
                "the command is empty: send resume (LangGraph accepts no null as an answer),"
                " update or goto; to continue without a command, leave it out"
            )
        return self


def graph_command(*, resume: Any = None, update: Any = None, goto: Any = None) -> Command[Any]:
    """LangGraph's command, from the fields of a client's command."""
    if isinstance(update, list) and all(map(_is_pair, update)):
        # LangGraph recognizes pairs by their type: tuples.
        update = [tuple(pair) for pair in update]
    return Command(resume=resume, update=update, goto=_goto(goto))


def _goto(value: Any) -> Any:
    if value is None:
        return ()
    if isinstance(value, list):
        return [_goto(item) for item in value]
    if isinstance(value, dict):
        return Send(cast("str", value["node"]), value.get("input"))
    return value


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[0], str)


def _is_send(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("node"), str)


def refuse_unknown_nodes(nodes: Collection[str], kwargs: Mapping[str, Any]) -> None:
    """Refuse names of nodes that the graph does not have: LangGraph would ignore them.

    :param kwargs: the stored arguments of a run.
    :raises InvalidRequest: ``command.goto``, ``interrupt_before`` or ``interrupt_after`` names one.
    """
    command = kwargs["command"] or {}
    wanted = {
        "command.goto": [name for name in targets(command.get("goto")) if name != END],
        "interrupt_before": _named(kwargs["interrupt_before"]),
        "interrupt_after": _named(kwargs["interrupt_after"]),
    }
    for where, names in wanted.items():
        if unknown := [name for name in names if name not in nodes]:
            there = ", ".join(name for name in nodes if not name.startswith("__"))
            raise InvalidRequest(
                f"{where}: the graph has no node '{unknown[0]}'; it has {there or 'none'}"
            )


def targets(goto: Any) -> list[str]:
    """The nodes that a command's ``goto`` names."""
    ways = goto if isinstance(goto, list) else [goto] if goto else []
    return [str(way.get("node")) if isinstance(way, dict) else str(way) for way in ways]


def _named(names: Sequence[str] | str | None) -> Sequence[str]:
    return () if names is None or isinstance(names, str) else names
