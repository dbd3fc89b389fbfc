"""``headrace dev``: a database, its schema and the server, in the foreground, for one folder.

Starts them in order and stops them in the reverse one. Everything it keeps is in ``.headrace``.
"""

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.dev_server import DevServer
from headrace.cli.first_screen import first_screen
from headrace.cli.graph_check import GraphCheck
from headrace.cli.options import App, Config, Host, Port, Processes, read_dotenv, settings_with
from headrace.cli.serve import (
    prepare_runtime_directory,
    refuse_missing_graphs,
    refuse_open_door,
    refuse_taken_address,
    warn_about_unknown_variables,
)
from headrace.cli.signals import StopSignals
from headrace.cli.target import manifest_for, target_in
from headrace.cli.workspace import Workspace
from headrace.db.conninfo import connection_string
from headrace.db.migrate import upgrade
from headrace.db.pool import probe
from headrace.embedded.launcher import EmbeddedPostgres
from headrace.graphs.manifest import BUILT_IN, Manifest, find_manifest
from headrace.settings import Settings, set_environment

Target = Annotated[
    str | None,
    typer.Argument(
        help="graph.py:builder, or a langgraph.json; default: ./langgraph.json, else ./graph.py."
    ),
]


def dev(
    target: Target = None,
    host: Host = None,
    port: Port = None,
    processes: Processes = None,
    config: Config = None,
    app: App = None,
) -> None:
    """Serve the graphs of this folder, or an app, with all they need; Ctrl-C stops all of it."""
    if app:
        if target is not None:
            raise typer.BadParameter("serve a graph or an app (--app), not both")
        set_environment({"HEADRACE_APP": app})
    with ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        workspace = stack.enter_context(Workspace(Path.cwd() / ".headrace"))
        read_dotenv(Path.cwd())
        own_app = bool(Settings().app)
        if target is None and config is None and Settings().config is None and not own_app:
            target = target_in(Path.cwd())
        if target is not None:
            config = manifest_for(target, workspace.folder)
        settings = settings_with(host=host, port=port, processes=processes, config=config)
        warn_about_unknown_variables()
        workspace.stop_leftover_server()
        refuse_open_door(settings)
        refuse_taken_address(settings)
        if not own_app:
            refuse_missing_graphs(settings)
        check = stack.enter_context(GraphCheck()) if _may_fail(settings) else None
        code = _run(settings, workspace, signals, stack, check)
    if code:
        raise typer.Exit(code)


def _run(
    settings: Settings,
    workspace: Workspace,
    signals: StopSignals,
    stack: ExitStack,
    check: GraphCheck | None,
) -> int:
    """Start all of it, wait for the end; the exit code. ``stack`` stops what was started."""
    embedded = None
    if settings.database.url is None:
        embedded = _relative(workspace.data)
        settings = _with_embedded_postgres(workspace, stack)
    if signals.received:
        return 0
    facts = asyncio.run(probe(connection_string(settings.database)))
    revision = upgrade(settings.database)
    if signals.received:
        return 0
    if check is not None and not check.passed():
        return 1
    set_environment({"HEADRACE_RUNTIME_DIR": str(settings.runtime_dir or workspace.runtime)})
    settings = Settings()
    prepare_runtime_directory(settings)
    typer.echo(f"starting {settings.processes} server processes")
    server = stack.enter_context(DevServer(settings, workspace, signals))
    if server.wait_ready():
        manifest = find_manifest(settings)
        screen = first_screen(
            settings,
            facts,
            embedded=embedded,
            revision=revision,
            graphs=list(manifest.graphs) if manifest else [BUILT_IN],
            built_in=manifest is None,
            prefix=_prefix(manifest),
            app=settings.app,
        )
        typer.echo(screen)
    return server.wait_end()


def _prefix(manifest: Manifest | None) -> str:
    http = manifest.http if manifest is not None else None
    return (http.mount_prefix if http is not None else None) or ""


def _may_fail(settings: Settings) -> bool:
    """Whether there is anything of the user's to check: the built-in graph alone always loads."""
    return bool(settings.app or settings.model) or find_manifest(settings) is not None


def _with_embedded_postgres(workspace: Workspace, stack: ExitStack) -> Settings:
    postgres = EmbeddedPostgres(workspace.data)
    place = _relative(workspace.data)
    how = "starting" if workspace.data.exists() else "creating"
    typer.echo(f"{how} Postgres {postgres.version} in {place}")
    stack.callback(postgres.stop)
    postgres.start()
    for note in postgres.notes:
        typer.echo(note)
    if postgres.adopted:
        typer.echo("it ran already: an earlier headrace dev was killed")
    # An app of the user's finds its database by the usual name.
    set_environment({"HEADRACE_DATABASE__URL": postgres.dsn(), "DATABASE_URL": postgres.dsn()})
    return Settings()


def _relative(path: Path) -> str:
    return str(path.relative_to(Path.cwd()))
