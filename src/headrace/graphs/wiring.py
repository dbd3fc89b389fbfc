"""What LangGraph keeps in ``configurable`` for itself, where headrace has to put it there.

Every private name of LangGraph that graphs need stands here; a test fails by the name of the one
that moves.
"""

from typing import Any

from langgraph import errors
from langgraph._internal._constants import CONFIG_KEY_RUNTIME
from langgraph.runtime import Runtime

#: Where a run says that its resume is to name interrupts that wait. Not imported: releases of
#: LangGraph before 1.2.22 have no such name.
STRICT_RESUME = "__pregel_strict_resume"
HAS_STRICT_RESUME = hasattr(errors, "UnknownInterruptError")


def runtime_for_update(store: Any, context: Any) -> dict[str, Any]:
    """What edges find their store and context in, while a state is changed without a run."""
    return {CONFIG_KEY_RUNTIME: Runtime(store=store, context=context)}
