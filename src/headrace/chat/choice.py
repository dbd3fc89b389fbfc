"""Which graph is behind /chat."""

from collections.abc import Sequence

#: The built-in graph's name, preferred when a manifest has one like it.
PREFERRED_GRAPH = "chat"


def chat_graph(graph_ids: Sequence[str], wanted: str) -> str:
    """The graph that the setting names, else ``chat``, else the first of the manifest."""
    if wanted:
        return wanted
    return PREFERRED_GRAPH if PREFERRED_GRAPH in graph_ids else graph_ids[0]
