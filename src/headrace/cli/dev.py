"""``headrace dev``: a database, its schema and the server, in the foreground, for one folder.

Starts them in order and stops them in the reverse one. Everything it keeps is in ``.headrace``.
"""

import asyncio
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.attempt import tell_if_slow
from headrace.cli.dev_server import DevServer
from headrace.cli.first_screen import first_screen
from headrace.cli.graph_check import GraphCheck
from headrace.cli.options import Config, Host, Port, Processes
from headrace.cli.project import Project
from headrace.cli.serve import (
    bound_socket,
    prepare_runtime_directory,
    refuse_missing_graphs,
    refuse_open_door,
    warn_about_unknown_variables,
)
from headrace.cli.signals import StopSignals
from headrace.cli.target import manifest_for, target_in
from headrace.cli.workspace import Workspace
from headrace.db.conninfo import connection_string
from headrace.db.migrate import upgrade
from headrace.db.pool import probe
from headrace.embedded.launcher import EmbeddedPostgres
from headrace.graphs.manifest import BUILT_IN, Manifest
from headrace.server.gunicorn import SHARED

_POLL_SECONDS = 0.05

Target = Annotated[
    str | None,
    typer.Argument(
        help="graph.py:builder, or a langgraph.json; default: ./langgraph.json, else ./graph.py."
    ),
]


LogJson = Annotated[
    bool, typer.Option("--log-json", help="Log JSON lines, all of them, as `headrace serve` does.")
]


def dev(
    target: Target = None,
    host: Host = None,
    port: Port = None,
    processes: Processes = None,
    config: Config = None,
    log_json: LogJson = False,
) -> None:
    """Serve the graphs of this folder with everything they need; Ctrl-C stops all of it."""
    with ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        workspace = stack.enter_context(Workspace(Path.cwd() / ".headrace"))
        if target is not None:
            config = manifest_for(target, workspace.folder)
        project = Project(Path.cwd(), host=host, port=port, processes=processes, config=config)
        if project.settings.config is None and (found := target_in(Path.cwd())) is not None:
            project.serve_manifest(manifest_for(found, workspace.folder))
        if log_json or project.settings.observability.log_format == "auto":
            project.fix(HEADRACE_OBSERVABILITY__LOG_FORMAT="json" if log_json else "short")
        warn_about_unknown_variables()
        workspace.stop_leftover_server()
        refuse_open_door(project.settings)
        listener = stack.enter_context(bound_socket(project.settings))
        refuse_missing_graphs(project.settings)
        check = stack.enter_context(GraphCheck()) if _may_fail(project) else None
        code = _run(project, workspace, signals, stack, check, listener)
    if code:
        raise typer.Exit(code)


def _run(
    project: Project,
    workspace: Workspace,
    signals: StopSignals,
    stack: ExitStack,
    check: GraphCheck | None,
    listener: socket.socket,
) -> int:
    """Start all of it, wait for the end; the exit code. ``stack`` stops what was started."""
    embedded = None
    if project.settings.database.url is None:
        embedded = _relative(workspace.data)
        project.fix(HEADRACE_DATABASE__URL=_embedded_postgres(workspace, stack))
    if signals.received:
        return 0
    database = project.settings.database
    facts = asyncio.run(probe(connection_string(database)))
    revision = upgrade(database)
    if signals.received:
        return 0
    if check is not None and (problem := _problem(check, signals)) is not None:
        typer.echo(problem, err=True)
        return 1
    runtime = prepare_runtime_directory(project.settings, default=workspace.runtime)
    (runtime / SHARED).touch()
    project.fix_what_is_started()
    server = stack.enter_context(DevServer(project, workspace, signals, listener))
    if server.wait_ready():
        manifest = project.manifest
        screen = first_screen(
            project.settings,
            facts,
            embedded=embedded,
            revision=revision,
            graphs=list(manifest.graphs) if manifest else [BUILT_IN],
            built_in=manifest is None,
            prefix=_prefix(manifest),
        )
        typer.echo(screen)
    return server.wait_end()


def _problem(check: GraphCheck, signals: StopSignals) -> str | None:
    while not check.ended and not signals.received:
        tell_if_slow(check)
        time.sleep(_POLL_SECONDS)
    return None if signals.received else check.problem()


def _prefix(manifest: Manifest | None) -> str:
    http = manifest.http if manifest is not None else None
    return (http.mount_prefix if http is not None else None) or ""


def _may_fail(project: Project) -> bool:
    """Whether there is anything of the user's to check: the built-in graph alone always loads."""
    return bool(project.settings.model) or project.manifest is not None


def _embedded_postgres(workspace: Workspace, stack: ExitStack) -> str:
    """Start it; its URL."""
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
    return postgres.dsn()


def _relative(path: Path) -> str:
    return str(path.relative_to(Path.cwd()))
