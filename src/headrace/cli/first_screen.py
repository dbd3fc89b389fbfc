"""What ``headrace dev`` shows once the server is ready."""

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.cli.examples import built_in_examples, examples
from headrace.db.conninfo import connection_string, describe
from headrace.db.pool import CONNECTIONS_BESIDE_POOL
from headrace.db.probe import ServerFacts
from headrace.graphs.manifest import chat_graph
from headrace.settings import Settings


def first_screen(
    settings: Settings,
    facts: ServerFacts,
    *,
    embedded: str | None,
    revision: str,
    graphs: Sequence[str],
    built_in: bool,
    input_schema: Mapping[str, Any] | None = None,
    prefix: str = "",
    app: str = "",
) -> str:
    """One line of facts, and lines to paste that work for the present graph.

    :param embedded: the data directory of the embedded Postgres; None for another Postgres.
    :param built_in: whether the graphs are headrace's own.
    :param input_schema: of the graph behind /chat; None if it is not known.
    :param app: the app that is served in place of headrace's own; only facts are shown for it.
    :param prefix: the prefix of every path.
    """
    major = facts.version.partition(".")[0]
    place = f"(embedded) {embedded}" if embedded else _database(settings)
    pool = settings.database.pool_max
    wanted = settings.processes * (pool + CONNECTIONS_BESIDE_POOL)
    url = f"http://{_host(settings)}:{settings.port}{prefix}"
    line = " · ".join(
        [
            f"postgres {major} {place}",
            f"schema {revision} ok",
            f"app {app}"
            if app
            else f"graphs: {', '.join(graphs)}{' (built in)' if built_in else ''}",
            f"{settings.processes} processes x pool {pool} = {wanted}"
            f" of {facts.max_connections} connections",
            url,
            *([] if app else ["try:"]),
        ]
    )
    if app:
        # The user's app may serve the API anywhere, or not at all.
        return line
    # The key itself is not shown: screens are shared.
    key = " -H 'x-api-key: YOUR-KEY'" if settings.credentials_needed else ""
    if built_in:
        lines = built_in_examples(url, key)
    else:
        lines = examples(url, key, chat_graph(graphs, settings.chat_graph), input_schema)
    return "\n".join([line, *lines])


def _database(settings: Settings) -> str:
    source = settings.database.url_source
    return f"({source}) {describe(connection_string(settings.database))}"


def _host(settings: Settings) -> str:
    if settings.host in {"0.0.0.0", "::", ""}:  # noqa: S104 - read, not bound
        return "127.0.0.1"
    return f"[{settings.host}]" if ":" in settings.host else settings.host
