"""``headrace dev``: a database, its schema and the server for one folder, in the foreground.

Starts them in order and stops them in reverse order. It keeps all its files in ``.headrace``.
"""

import asyncio
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.cli.dev_server import DevServer
from headrace.cli.first_check import FirstCheck
from headrace.cli.first_screen import first_screen
from headrace.cli.options import App, Config, Host, Port, Processes
from headrace.cli.output import index_line
from headrace.cli.project import Project
from headrace.cli.serve import (
    bound_socket,
    prepare_runtime_directory,
    refuse_missing_graphs,
    refuse_open_access,
    warn_about_unknown_variables,
)
from headrace.cli.signals import StopSignals
from headrace.cli.target import manifest_for, target_in
from headrace.cli.workspace import Workspace
from headrace.db.logins import login_of
from headrace.db.migrate import prepare_index, upgrade
from headrace.db.probe import probe
from headrace.embedded.launcher import EmbeddedPostgres
from headrace.graphs.manifest import BUILT_IN, Manifest, chat_graph
from headrace.server.gunicorn import SHARED

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
    app: App = None,
) -> None:
    """Serve the graphs of this folder, or an app, with all they need; Ctrl-C stops all of it."""
    if app and target is not None:
        raise typer.BadParameter("serve a graph or an app (--app), not both")
    with ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        workspace = stack.enter_context(Workspace(Path.cwd() / ".headrace"))
        if target is not None:
            config = manifest_for(target, workspace.folder)
        project = Project(
            Path.cwd(), host=host, port=port, processes=processes, config=config, app=app
        )
        own_app = bool(project.settings.app)
        if (
            not own_app
            and project.settings.config is None
            and (found := target_in(Path.cwd())) is not None
        ):
            project.serve_manifest(manifest_for(found, workspace.folder))
        if log_json or project.settings.observability.log_format == "auto":
            project.fix(HEADRACE_OBSERVABILITY__LOG_FORMAT="json" if log_json else "short")
        warn_about_unknown_variables()
        if project.settings.metrics.port:
            typer.echo(
                "warning: headrace dev answers health and metrics on its one port;"
                " HEADRACE_METRICS__PORT is for headrace serve and headrace worker",
                err=True,
            )
        workspace.stop_leftover_server()
        refuse_open_access(project.settings)
        listener = stack.enter_context(bound_socket(project.settings))
        if not own_app:
            refuse_missing_graphs(project.settings)
        check = stack.enter_context(FirstCheck()) if _may_fail(project) else None
        code = _run(project, workspace, signals, stack, check, listener)
    if code:
        raise typer.Exit(code)


def _run(
    project: Project,
    workspace: Workspace,
    signals: StopSignals,
    stack: ExitStack,
    check: FirstCheck | None,
    listener: socket.socket,
) -> int:
    """Start everything and wait for the end; returns the exit code. ``stack`` stops everything."""
    embedded = None
    if project.settings.database.url is None:
        embedded = _relative(workspace.data)
        url = _embedded_postgres(workspace, stack)
        # The user's app finds its database under the usual name.
        project.fix(HEADRACE_DATABASE__URL=url, DATABASE_URL=url)
    if signals.received:
        return 0
    database = project.settings.database
    facts = asyncio.run(probe(login_of(database)))
    revision = upgrade(database)
    _prepare_index(project)
    if signals.received:
        return 0
    if check is not None and not check.passed(signals):
        return 1
    runtime = prepare_runtime_directory(project.settings, default=workspace.runtime)
    (runtime / SHARED).touch()
    project.fix_what_is_started()
    server = stack.enter_context(DevServer(project, workspace, signals, listener))
    if server.wait_ready():
        manifest = project.manifest
        graphs = list(manifest.graphs) if manifest else [BUILT_IN]
        prefix = _prefix(manifest)
        screen = first_screen(
            project.settings,
            facts,
            embedded=embedded,
            revision=revision,
            graphs=graphs,
            built_in=manifest is None,
            input_schema=_input_schema(check, graphs, project),
            prefix=prefix,
            app=project.settings.app,
        )
        typer.echo(screen)
    return server.wait_end()


def _prepare_index(project: Project) -> None:
    """Make the tables that ``store.index`` of langgraph.json needs, if there is one."""
    store = project.manifest.store if project.manifest is not None else None
    if store is not None and store.index is not None:
        prepared = prepare_index(project.settings.database, store.index.as_index())
        if prepared.made or prepared.adopted or prepared.unindexed:
            typer.echo(index_line(prepared))


def _input_schema(
    check: FirstCheck | None, graphs: list[str], project: Project
) -> dict[str, Any] | None:
    """The input schema of the graph behind /chat."""
    wanted = chat_graph(graphs, project.settings.chat_graph)
    return None if check is None else check.input_schema(wanted)


def _prefix(manifest: Manifest | None) -> str:
    http = manifest.http if manifest is not None else None
    return (http.mount_prefix if http is not None else None) or ""


def _may_fail(project: Project) -> bool:
    """Whether there is user code to check: the built-in graph always loads."""
    settings = project.settings
    return bool(settings.app or settings.model) or project.manifest is not None


def _embedded_postgres(workspace: Workspace, stack: ExitStack) -> str:
    """Start the embedded Postgres; returns its URL."""
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
