"""What ``headrace dev`` shows once the server is ready."""

from collections.abc import Sequence

from headrace.db.conninfo import connection_string, describe
from headrace.db.pool import CONNECTIONS_BESIDE_POOL, ServerFacts
from headrace.settings import Settings

_MESSAGES = (
    ("Remember that I like green tea.", "first"),
    ("What did I just say?", "first"),
    ("What do you remember?", "second"),
)


def first_screen(
    settings: Settings,
    facts: ServerFacts,
    *,
    embedded: str | None,
    revision: str,
    graphs: Sequence[str],
    built_in: bool,
    prefix: str = "",
    app: str = "",
) -> str:
    """One line of facts and three lines to paste; of an app of the user's the facts alone.

    :param embedded: where the embedded Postgres keeps its data; None for another Postgres.
    :param built_in: whether the graphs are headrace's own.
    :param app: the app that is served in place of headrace's own.
    :param prefix: what stands before every path.
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
            f"app {app}" if app else f"graphs: {', '.join(graphs)}{_mark(built_in)}",
            f"{settings.processes} processes x pool {pool} = {wanted}"
            f" of {facts.max_connections} connections",
            url,
            *([] if app else ["try:"]),
        ]
    )
    if app:
        # Where it has the API, and whether, is its own affair.
        return line
    # The key itself is not shown: screens are shared.
    key = " -H 'x-api-key: YOUR-KEY'" if settings.accepted_api_keys else ""
    return "\n".join([line, *(_curl(url, key, *message) for message in _MESSAGES)])


def _mark(built_in: bool) -> str:
    return " (built in)" if built_in else ""


def _curl(url: str, key: str, message: str, thread: str) -> str:
    body = f'{{"message": "{message}", "thread_id": "{thread}", "user_id": "ada"}}'
    return f"  curl -s {url}/chat{key} -H 'Content-Type: application/json' -d '{body}'"


def _database(settings: Settings) -> str:
    source = settings.database.url_source
    return f"({source}) {describe(connection_string(settings.database))}"


def _host(settings: Settings) -> str:
    if settings.host in {"0.0.0.0", "::", ""}:  # noqa: S104 - read, not bound
        return "127.0.0.1"
    return f"[{settings.host}]" if ":" in settings.host else settings.host
