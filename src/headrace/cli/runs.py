"""``headrace runs``: what an operator asks about one run, read from the database."""

from typing import Annotated
from uuid import UUID

import typer

from headrace.cli.run_text import lines
from headrace.db import schema
from headrace.db.pool import Connection
from headrace.events.json_encoding import encode_json
from headrace.ids import canonical_uuid
from headrace.runs.timeline_repository import RunRecord, read_record
from headrace.runs.timeline_service import told
from headrace.settings import Settings

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
    """Tell a run: why it stopped, and why it was slow."""
    canonical = canonical_uuid(run_id)
    record = _read(UUID(canonical), limit) if canonical else None
    if record is None:
        typer.echo(
            f"There is no run {run_id}. A run is deleted with its thread, by a rollback, and by"
            " retention.",
            err=True,
        )
        raise typer.Exit(1)
    timeline, _ = told(record)
    if as_json:
        typer.echo(encode_json(timeline.model_dump()).decode())
    else:
        typer.echo("\n".join(lines(timeline)))


def _read(run_id: UUID, limit: int) -> RunRecord | None:
    """:raises StartupRefusal: the database cannot be reached, or is no database of this release."""
    settings = Settings()
    database, seconds = settings.database, settings.requests.list_timeout_seconds

    async def read(connection: Connection) -> RunRecord | None:
        return await read_record(
            connection,
            run_id,
            tenant=None,
            thread_id=None,
            limit=limit,
            offset=0,
            timeout_seconds=seconds,
        )

    return schema.ask(database, read, timeout_seconds=database.open_timeout_seconds + seconds)
