"""``headrace db``: the commands of the database."""

from collections.abc import Iterator
from typing import Annotated

import typer

from headrace.cli.output import index_line
from headrace.database_settings import DatabaseSettings
from headrace.db import migrate, schema
from headrace.db.storage import Storage, read_storage
from headrace.graphs.manifest import find_manifest
from headrace.observability.figures import TableFigures
from headrace.observability.printable import printable
from headrace.settings import Settings

app = typer.Typer(help="Migrate, check and adopt the database.", no_args_is_help=True)


@app.command()
def upgrade(
    grant_role: Annotated[
        str,
        typer.Option("--grant", metavar="ROLE", help="Then do what `headrace db grant` does."),
    ] = "",
) -> None:
    """Bring the schema to this release; may run many times and from many places at once.

    If langgraph.json has `store.index`, make the tables of its vectors too.
    """
    before = schema.state(_database(), migrations=True)
    revision = migrate.upgrade(_database())
    step = "was there already" if before.current == revision else f"from {before.current or 'none'}"
    typer.echo(f"schema {revision} ({step})")
    _prepare_index()
    if grant_role:
        grant(grant_role)
    if before.current is None and (other := migrate.other_schema(_database())):
        typer.echo(
            f"note: schema {other} has tables of headrace or LangGraph too; what is in them stays"
            " there. docs/own-schema.md tells how to move it.",
            err=True,
        )


def _prepare_index() -> None:
    """Make the tables that ``store.index`` of langgraph.json needs, if there is one."""
    manifest = find_manifest(Settings())
    entry = manifest.store.index if manifest is not None and manifest.store is not None else None
    if entry is not None:
        typer.echo(index_line(migrate.prepare_index(_database(), entry.as_index())))


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


@app.command()
def grant(
    role: Annotated[str, typer.Argument(help="The role of the servers' DATABASE_URL.")],
) -> None:
    """Let a role read and change headrace's rows, and nothing more; run it as the tables' owner.

    Each `headrace db upgrade` gives the role the rights on new tables too.
    """
    tables = migrate.grant_to(_database(), role)
    typer.echo(f"role {printable(role)} may read and change the rows of {tables} tables")


@app.command()
def storage(
    threads: Annotated[
        int, typer.Option(min=1, max=10_000, help="How many threads to list, largest first.")
    ] = 20,
    timeout_seconds: Annotated[
        float, typer.Option(min=0.1, max=86_400, help="The longest that a statement may take.")
    ] = 30.0,
) -> None:
    """Show what each table takes, and the threads that take most.

    It reads the rows of the three tables of checkpoints once, without their large values; at most
    512 MiB of rows of each. The bytes of threads are estimates then. Exit with 1 when something
    could not be measured in time.
    """
    found = read_storage(_database(), threads=threads, timeout_seconds=timeout_seconds)
    for line in _storage_lines(found):
        typer.echo(line)
    if found.tables is None or found.threads is None:
        typer.echo(
            f"not measured within {timeout_seconds:g} s, or a table is locked: repeat it, or raise"
            " --timeout-seconds",
            err=True,
        )
        raise typer.Exit(1)


def _storage_lines(found: Storage) -> Iterator[str]:
    if found.tables is not None:
        yield f"{'table':<26}{'rows':>12}{'dead':>12}{'bytes':>16}  last vacuum"
        for table in found.tables:
            yield _table_line(table)
    if found.threads is not None:
        yield ""
        yield f"{'thread':<38}{'bytes':>16}"
        for thread_id, size_bytes in found.threads:
            yield f"{printable(thread_id):<38}{size_bytes:>16}"
    for name, percent in sorted(found.sampled.items()):
        yield f"estimated: {percent:.1f} % of the rows of {name} were read"


def _table_line(table: TableFigures) -> str:
    counts = f"{table.rows:>12}{table.dead_rows:>12}{table.bytes:>16}"
    return f"{table.name:<26}{counts}  {_last_vacuum(table)}"


def _last_vacuum(table: TableFigures) -> str:
    if not table.vacuumed:
        return "none known"
    minutes = table.since_vacuum_seconds / 60
    return f"{minutes:.0f} min ago" if minutes < 120 else f"{minutes / 60:.0f} h ago"


def _database() -> DatabaseSettings:
    return Settings().database
