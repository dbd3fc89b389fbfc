"""``headrace init``: a first graph and its manifest, to start from."""

from pathlib import Path

import typer

from headrace.errors import StartupRefusal

_GRAPH = '''\
"""An agent that answers; call your model where the reply is made."""

from langgraph.graph import START, MessagesState, StateGraph


async def reply(state: MessagesState):
    return {"messages": [("ai", f"You said: {state['messages'][-1].text}")]}


builder = StateGraph(MessagesState)
builder.add_node(reply)
builder.add_edge(START, "reply")
'''

_MANIFEST = """\
{
  "graphs": {
    "agent": "./graph.py:builder"
  },
  "dependencies": ["."]
}
"""


def init() -> None:
    """Write graph.py and langgraph.json into this folder; existing files are not touched."""
    files = {Path("graph.py"): _GRAPH, Path("langgraph.json"): _MANIFEST}
    for path in files:
        if path.exists():
            raise StartupRefusal(
                "HR206",
                where=str(path.absolute()),
                what="it is there already",
                remedy="Start it with `headrace dev`, or run this in an empty folder.",
            )
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
        typer.echo(f"wrote {path}")
    typer.echo("try: headrace dev")
