"""The ``headrace`` command: joins its subcommands, and turns refusals into one sentence."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

from headrace.cli import db, keys, runs, store, webhooks
from headrace.cli.dev import dev
from headrace.cli.dockerfile import dockerfile
from headrace.cli.explain import explain
from headrace.cli.init import init
from headrace.cli.options import settings_refusal
from headrace.cli.output import complain, drop_output, is_unwritten, unwritten
from headrace.cli.purge import purge
from headrace.cli.serve import serve
from headrace.cli.settings_table import settings
from headrace.cli.usage import usage
from headrace.cli.worker import worker
from headrace.db.faults import refused_statements
from headrace.errors import StartupRefusal
from headrace.server.own_secrets import mask_tracebacks

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(dev)
app.command()(serve)
app.command()(worker)
app.command()(dockerfile)
app.command()(init)
app.command()(settings)
app.command()(explain)
app.command()(usage)
app.command()(purge)
app.add_typer(db.app, name="db")
app.add_typer(keys.app, name="keys")
app.add_typer(runs.app, name="runs")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(store.app, name="store")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"headrace {version('headrace')}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Serve LangGraph agents over HTTP from FastAPI and Postgres."""


def main() -> None:
    """Run the command line; refusals end it with their sentence on stderr and exit code 1. No
    secret stands in them, nor in the traceback of another error.
    """
    try:
        with refused_statements():
            app()
    except (ValidationError, SettingsError) as error:
        complain(settings_refusal(error))
    except StartupRefusal as refusal:
        complain(refusal)
    except Exception as error:
        if not (isinstance(error, OSError) and is_unwritten(error)):
            # Only now: typer has set a hook of its own.
            mask_tracebacks()
            raise
        drop_output()
        typer.echo(unwritten(error), err=True)
    else:
        return
    sys.exit(1)
