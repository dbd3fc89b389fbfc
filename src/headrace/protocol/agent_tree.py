"""The tree of a run: the graph and the subgraphs that it has begun."""

from typing import Any

from headrace.protocol.subscription import Namespace


def tree_of(root: dict[str, Any], told: list[dict[str, Any]]) -> dict[str, Any]:
    """The graph and its subgraphs, from what was told of their beginnings and ends."""
    nodes: dict[Namespace, dict[str, Any]] = {(): root}
    for params in told:
        namespace, data = tuple(params["namespace"]), params["data"]
        if namespace in nodes:
            nodes[namespace]["status"] = data["event"]
            continue
        node = {
            "namespace": list(namespace),
            "status": data["event"],
            "graph_name": data.get("graph_name", ""),
            "children": [],
        }
        nodes[namespace] = node
        parent = next(
            nodes[namespace[:length]]
            for length in reversed(range(len(namespace)))
            if namespace[:length] in nodes
        )
        parent["children"].append(node)
    return root
