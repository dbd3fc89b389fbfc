"""The target of ``headrace dev <target>``: a manifest, or one graph that gets a manifest."""

import ast
import json
from pathlib import Path

import typer

from headrace.errors import StartupRefusal
from headrace.graphs.manifest import DEFAULT_NAME

#: The graph that LangGraph's own clients ask for by default.
_GRAPH_ID = "agent"


#: Usual names of a graph, best guess first.
_USUAL_NAMES = ("graph", "builder", "agent", "app", "workflow", "make_graph")


def target_in(folder: Path) -> str | None:
    """The graph of a folder that has a ``graph.py`` and no manifest; None without a ``graph.py``.

    :raises StartupRefusal: HR101 no name in it looks like a graph.
    """
    file = folder / "graph.py"
    if (folder / DEFAULT_NAME).exists() or not file.is_file():
        return None
    names = _names_at_top(file)
    for name in _USUAL_NAMES:
        if name in names:
            return f"graph.py:{name}"
    raise StartupRefusal(
        "HR101",
        where="graph.py",
        what=f"nothing in it is called {', '.join(_USUAL_NAMES[:-1])} or {_USUAL_NAMES[-1]}",
        remedy="Name your graph: headrace dev graph.py:NAME.",
    )


def _names_at_top(file: Path) -> set[str]:
    """The names that a module binds, read without running it.

    For a file that is no Python, one usual name: the import of the graph then reports the error.
    """
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):
        return set(_USUAL_NAMES[:1])  # its import will say what is wrong with it
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


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
