"""What LangGraph keeps in ``configurable`` for itself, where headrace has to put it there.

By value: LangGraph has no public names for these keys, and releases before 1.2.22 have none at all
for the second. A test fails when one is called otherwise.
"""

from typing import Any

from langgraph import errors
from langgraph.runtime import Runtime

#: Where nodes and edges find their store and their context.
RUNTIME = "__pregel_runtime"
#: Where a run says that its resume is to name interrupts that wait.
STRICT_RESUME = "__pregel_strict_resume"
HAS_STRICT_RESUME = hasattr(errors, "UnknownInterruptError")


def runtime_for_update(store: Any, context: Any) -> dict[str, Any]:
    """What edges need while a state is changed without a run."""
    return {RUNTIME: Runtime(store=store, context=context)}
