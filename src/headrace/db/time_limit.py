"""A time limit on blocking calls to Postgres. After it, the connection is shut down.

psycopg's own timeout covers only the login. PgBouncer accepts a login at once. Then the first
statement may wait for a server connection, by default for two minutes.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg


class TimeLimit:
    """``passed`` is true once the time is over and the connection is shut down."""

    passed = False


@contextmanager
def cut_after(connection: psycopg.Connection[Any], seconds: float) -> Iterator[TimeLimit]:
    """Shut the connection down after ``seconds``: a waiting call raises ``OperationalError``."""
    limit = TimeLimit()

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
