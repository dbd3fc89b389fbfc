"""``headrace db``: the schema's commands, one line of output each."""

import typer

from headrace.db import migrate, schema
from headrace.setting_groups import DatabaseSettings
from headrace.settings import Settings

app = typer.Typer(help="Migrate, check and adopt the database.", no_args_is_help=True)


@app.command()
def upgrade() -> None:
    """Bring the schema to this release; may run many times and from many places at once."""
    before = schema.state(_database(), migrations=True)
    revision = migrate.upgrade(_database())
    step = "was there already" if before.current == revision else f"from {before.current or 'none'}"
    typer.echo(f"schema {revision} ({step})")
    if before.current is None and (other := migrate.other_schema(_database())):
        typer.echo(
            f"note: schema {other} has tables of headrace or LangGraph too; what is in them stays"
            " there. docs/own-schema.md tells how to move it.",
            err=True,
        )


@app.command()
def current() -> None:
    """Show the schema's revision and this release's."""
    found = schema.state(_database(), migrations=True)
    typer.echo(f"schema {found.current or 'none'}, this release has {found.head}")


@app.command()
def check() -> None:
    """Exit with 1 when this release cannot serve on the schema, or the schema has drifted."""
    found = schema.state(_database(), migrations=True)
    problem = found.problem
    if problem is None and not found.newer:
        problem = migrate.drift(_database())
    typer.echo(problem or f"schema {found.current} ok")
    if problem:
        raise typer.Exit(1)


@app.command()
def adopt() -> None:
    """Make threads for conversations that LangGraph's own setup() and saver have left here."""
    made = migrate.adopt(_database())
    left_out = f", {made.skipped} left out: id longer than 255" if made.skipped else ""
    typer.echo(f"{made.threads} threads adopted{left_out}")


def _database() -> DatabaseSettings:
    return Settings().database
