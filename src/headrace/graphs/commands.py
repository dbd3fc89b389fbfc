"""Commands as clients send them, in LangGraph's own form."""

from typing import Any

from langgraph.types import Command, Send


def graph_command(*, resume: Any = None, update: Any = None, goto: Any = None) -> Command[Any]:
    """What to do instead of starting from an input, or in place of values."""
    return Command(resume=resume, update=update, goto=_goto(goto))


def _goto(value: Any) -> Any:
    if value is None:
        return ()
    if isinstance(value, list):
        return [_goto(item) for item in value]
    if isinstance(value, dict):
        return Send(str(value.get("node")), value.get("input"))
    return value
