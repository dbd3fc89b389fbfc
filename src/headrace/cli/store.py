"""``headrace store``: the commands of the store's semantic index."""

import os
import sys
from typing import Annotated

import typer

app = typer.Typer(help="Work on the store's semantic index.", no_args_is_help=True)

All = Annotated[
    bool,
    typer.Option("--all", help="Make all vectors anew, not only those that are missing or differ."),
]
Batch = Annotated[
    int,
    typer.Option(min=1, max=10_000, help="Items that are read, embedded and committed together."),
]


@app.callback()
def options() -> None:
    """Work on the store's semantic index."""


@app.command()
def reindex(everything: All = False, batch: Batch = 100) -> None:
    """Embed the items that `store.index` of langgraph.json asks for and that have no vectors.

    For another model, other dims or other fields it makes all vectors anew, while servers go on
    with the old ones. If it is stopped, the next one goes on where it stopped.
    """
    # In place of this process: that module imports LangGraph, and other commands must not.
    arguments = ["all" if everything else "missing", str(batch)]
    command = [sys.executable, "-m", "headrace.cli.reindex_command", *arguments]
    os.execv(sys.executable, command)  # noqa: S606 - our own arguments, no shell
