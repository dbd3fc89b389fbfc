"""The end of a superstep, where a graph can stop without repeating a step later.

LangGraph asks a ``RunControl`` before each superstep whether the graph is to stop. It has written a
checkpoint then, and raises ``GraphDrained``.
"""

import sys
from typing import Any

from langgraph.pregel import Pregel
from langgraph.runtime import RunControl


class BoundaryControl(RunControl):
    """Stops one graph at a boundary; the graphs that its nodes execute have the control as well.

    A graph that is a node by itself stops at its own boundary too: its node goes on from there. A
    graph that a function calls goes on until that function has ended. If it stopped, LangGraph
    would call the function again from its beginning, or the function would take the stop for an
    error.
    """

    __slots__ = ("_graph", "_held")

    def __init__(self) -> None:
        super().__init__()
        self._graph: Any = None
        self._held = False

    def hold(self) -> None:
        """Let the graph go on until :meth:`free` is called: it has not applied its command yet."""
        self._held = True

    def free(self) -> None:
        self._held = False

    def stop_inside(self, graph: Any) -> None:
        """Let graphs that are nodes of ``graph``, at any depth, stop at boundaries of their own."""
        self._graph = graph

    @property
    def asked(self) -> bool:
        """Whether the graph is to stop at a boundary."""
        return super().drain_requested

    @property
    def drain_requested(self) -> bool:
        """Whether the one who asks is to stop now. A node that asks learns of the request."""
        if not self.asked:
            return False
        # LangGraph gives all graphs of a run this one control, and does not tell which one asks.
        asker = sys._getframe(1).f_locals.get("self")
        path = getattr(asker, "checkpoint_ns", None)
        if path is None:
            return True
        if getattr(asker, "is_nested", False):
            return _is_node(self._graph, path)
        return not self._held


def _is_node(graph: Any, path: tuple[str, ...]) -> bool:
    """Whether each graph on the path is a node of the one before, not called by a function."""
    for part in path:
        if not isinstance(graph, Pregel):
            return False
        node = graph.nodes.get(part.partition(":")[0])
        graph = None if node is None else node.bound
    return isinstance(graph, Pregel)
