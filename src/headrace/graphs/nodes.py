"""Nodes that callers name: where to go, where to stop."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from langgraph.constants import END

from headrace.errors import InvalidRequest


def refuse_unknown_nodes(nodes: Collection[str], kwargs: Mapping[str, Any]) -> None:
    """LangGraph passes over a node that the graph has not, and the stop that was asked for.

    :param kwargs: as a run's are stored.
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
