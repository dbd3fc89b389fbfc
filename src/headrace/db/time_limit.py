"""A bound on how long a thread waits for Postgres: past it the connection is cut under it.

psycopg's own limits end with the login. A pooler logs in at once and lets the first statement wait
for a connection to the server, for two minutes with PgBouncer's defaults.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg


class Limit:
    """Whether the time was up, and the connection was cut."""

    passed = False


@contextmanager
def cut_after(connection: psycopg.Connection[Any], seconds: float) -> Iterator[Limit]:
    """Within it, whoever waits for an answer gets an ``OperationalError`` after ``seconds``."""
    limit = Limit()

    def cut() -> None:
        limit.passed = True
        with (
            suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(connection.fileno())) as link,
        ):
            link.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield limit
    finally:
        timer.cancel()
