"""LangGraph's runtime in a configuration: the store and the context that nodes and edges find."""

from typing import Any

from langgraph.runtime import Runtime

# LangGraph's own key in ``configurable``, by value: it has no public name for it. A test fails when
# LangGraph renames it.

#: Nodes and edges find their store and context here.
RUNTIME = "__pregel_runtime"


def runtime_for_run(store: Any) -> dict[str, Any]:
    """The configuration that gives a run another store than its graph has."""
    return {RUNTIME: Runtime(store=store)}


def runtime_for_update(store: Any, context: Any) -> dict[str, Any]:
    """The configuration that edges need when a state is changed without a run."""
    return {RUNTIME: Runtime(store=store, context=context)}
