"""``headrace serve``: checks what can be refused at once, then becomes gunicorn.

Some variables must be set before the server is imported; this module sets them before the exec. If
the Prometheus directory were set later, metrics would silently be those of one process.
"""

import errno
import os
import socket
import sys
import tempfile
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.options import App, Config, Host, Port, Processes, settings_with
from headrace.cli.output import complain
from headrace.db import schema
from headrace.errors import StartupRefusal
from headrace.graphs.manifest import find_manifest, refuse_missing_files
from headrace.server.gunicorn import TEMPORARY, arguments
from headrace.settings import Settings, set_environment, unknown_variables

NoWorker = Annotated[
    bool,
    typer.Option(
        "--no-worker",
        help="Serve the API only; `headrace worker` elsewhere executes the runs.",
    ),
]


def serve(
    host: Host = None,
    port: Port = None,
    processes: Processes = None,
    config: Config = None,
    app: App = None,
    no_worker: NoWorker = False,
) -> None:
    """Serve the graphs of langgraph.json from the database of DATABASE_URL."""
    if no_worker:
        set_environment({"HEADRACE_WORKER__ENABLED": "false"})
    if app:
        set_environment({"HEADRACE_APP": app})
    become_server(settings_with(host=host, port=port, processes=processes, config=config))


def become_server(settings: Settings) -> None:
    """Refuse what can be refused at once; then this process becomes gunicorn.

    :raises StartupRefusal: with what to change.
    """
    warn_about_unknown_variables()
    refuse_open_access(settings)
    refuse_taken_address(settings)
    if not settings.app or not settings.server.api:
        refuse_missing_graphs(settings)
    refuse_unfit_schema(settings)
    prepare_runtime_directory(settings)
    command = [sys.executable, "-m", "gunicorn", *arguments(settings)]
    sys.stdout.flush()
    os.execv(sys.executable, command)  # noqa: S606 - our own arguments, no shell


def warn_about_unknown_variables() -> None:
    for name in unknown_variables():
        typer.echo(f"warning: no setting reads {name}; is it a typing error?", err=True)


def refuse_open_access(settings: Settings) -> None:
    """Refuse an address that strangers can reach while no key is needed. A worker may have any
    address: it serves no API.

    :raises StartupRefusal: HR205 strangers could reach the API, and no key is needed.
    """
    if not settings.server.api:
        return
    open_to_all = settings.auth.mode == "none"
    if settings.credentials_needed or open_to_all or _is_loopback(settings.host):
        return
    # An app of one's own may have other graphs, and no handlers.
    manifest = None if settings.app else find_manifest(settings)
    if manifest is not None and manifest.authenticates:
        return
    raise StartupRefusal(
        "HR205",
        where=f"{settings.host}:{settings.port}",
        what="other machines can reach this address, and no caller needs a key",
        remedy="Set HEADRACE_API_KEYS (`openssl rand -hex 24` makes a key), or HEADRACE_AUTH=none"
        " where something in front of it asks who calls.",
    )


def _is_loopback(host: str) -> bool:
    """Whether every address of ``host`` belongs to this machine; an unknown host does not."""
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", None, type=socket.SOCK_STREAM)  # noqa: S104
    except OSError:
        return False
    return all(ip_address(str(entry[4][0]).partition("%")[0]).is_loopback for entry in found)


def refuse_missing_graphs(settings: Settings) -> None:
    """Check the manifest, and print a line for each part of it that has no effect.

    :raises StartupRefusal: HR104, HR109, HR111 for the manifest, HR101 for what it names.
    """
    manifest = find_manifest(settings)
    if manifest is not None:
        refuse_missing_files(manifest)
        manifest.import_folders()
        for notice in manifest.notices:
            typer.echo(f"warning: langgraph.json: {notice}", err=True)


def refuse_unfit_schema(settings: Settings) -> None:
    """Ask the database before the server is started; each process asks again.

    A database that does not answer may be starting. Then this prints that the server will wait.

    :raises StartupRefusal: HR303, HR304 the URL, HR311, HR312 the schema.
    """
    try:
        found = schema.state(settings.database)
    except StartupRefusal as refusal:
        if refusal.code != "HR301":
            raise
        seconds = settings.database.open_timeout_seconds
        complain(f"waiting up to {seconds:.0f} s for the database: {refusal}")
        return
    schema.refuse_unfit(found)


def refuse_taken_address(settings: Settings) -> None:
    """Try the address: gunicorn would try for five seconds and then show a traceback.

    :raises StartupRefusal: HR201 another process listens there, HR203 no process can listen there.
    """
    bound_socket(settings).close()
    if settings.metrics.port:
        there = {"host": settings.metrics.host or settings.host, "port": settings.metrics.port}
        bound_socket(settings.model_copy(update=there), group="METRICS__").close()


def bound_socket(settings: Settings, *, group: str = "") -> socket.socket:
    """A socket on the address of the settings, which does not listen yet.

    :param group: the group in the names of the variables that set the address.
    :raises StartupRefusal: HR201 another process listens there, HR203 no process can listen there.
    """
    where = f"{settings.host}:{settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except BaseException:
            bound.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartupRefusal(
                "HR201",
                where=where,
                what="something else listens on this port already",
                remedy="Stop it, or choose another port with"
                f" {'--port or ' if not group else ''}HEADRACE_{group}PORT.",
            ) from None
        raise StartupRefusal(
            "HR203",
            where=where,
            what=f"this address cannot be listened on ({error.strerror})",
            remedy=f"Correct HEADRACE_{group}HOST and HEADRACE_{group}PORT.",
        ) from None
    return bound


def prepare_runtime_directory(settings: Settings, *, default: Path | None = None) -> Path:
    """Make an empty directory for status slots and metric files, and name it in the environment.

    :param default: used if the settings name none; without it a new one in the temporary folder.
    """
    directory = settings.runtime_dir or default
    if directory is None:
        directory = Path(tempfile.mkdtemp(prefix="headrace-"))
        (directory / TEMPORARY).touch()
    for part in ("slots", "metrics"):
        (directory / part).mkdir(parents=True, exist_ok=True)
        # Remove files of an earlier start, or dead processes would be counted.
        for leftover in (directory / part).iterdir():
            leftover.unlink(missing_ok=True)
    directory = directory.absolute()
    set_environment(
        {
            "HEADRACE_RUNTIME_DIR": str(directory),
            "PROMETHEUS_MULTIPROC_DIR": str(directory / "metrics"),
        }
    )
    return directory
