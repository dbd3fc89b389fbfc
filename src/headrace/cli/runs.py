"""``headrace runs``: what an operator asks about one run, read from the database."""

import os
import sys
from typing import Annotated

import typer

app = typer.Typer(help="Look at runs in the database.", no_args_is_help=True)

RunId = Annotated[str, typer.Argument(help="The id of the run, as logs and answers show it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print what the route `timeline` answers.")]
Limit = Annotated[
    int, typer.Option(min=0, max=1000, help="How many checkpoints to show, the newest ones.")
]


@app.callback()
def options() -> None:
    """Look at runs in the database."""


@app.command()
def show(run_id: RunId, as_json: AsJson = False, limit: Limit = 100) -> None:
    """Show what happened to a run: why it stopped, and why it was slow."""
    # In place of this process: that module imports LangGraph, and other commands must not.
    form = "json" if as_json else "text"
    command = [sys.executable, "-m", "headrace.cli.shown_run", form, str(limit), run_id]
    sys.stdout.flush()
    os.execv(sys.executable, command)  # noqa: S606 - our own arguments, no shell
