"""What ``headrace dev <target>`` points at: a manifest, or one graph for which one is written."""

import json
from pathlib import Path

import typer

#: What LangGraph's own clients ask for when nothing else is said.
_GRAPH_ID = "agent"


def manifest_for(target: str, workspace: Path) -> Path:
    """The manifest to serve; for ``graph.py:builder`` a new one in ``workspace``."""
    if target.endswith(".json"):
        return Path(target)
    file, colon, name = target.rpartition(":")
    if not colon or not name.isidentifier():
        raise typer.BadParameter(
            f"{target!r} is neither a graph, like graph.py:builder, nor a langgraph.json"
        )
    manifest = {
        "dependencies": [str(Path.cwd())],
        "graphs": {_GRAPH_ID: f"{Path(file).resolve()}:{name}"},
    }
    path = workspace / "langgraph.json"
    path.write_text(json.dumps(manifest, indent=2) + "\n")
    return path
