"""An upgrade that stops anywhere leaves a database from which the next one goes on."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, event

from headrace.db.migrate import drift, upgrade
from headrace.db.schema import known_revisions
from headrace.errors import StartupRefusal
from tests.migrations.catalog import invalid_indexes, snapshot
from tests.support.database import database_settings


class Interrupted(Exception):
    pass


@contextmanager
def interrupted_after_each_new_statement(seen: set[str]) -> Iterator[None]:
    """Fails once after every statement that changes something; those in ``seen`` pass."""

    def after(conn, cursor, statement, parameters, context, executemany):
        if statement.lstrip().startswith(("SELECT", "WITH")) or statement in seen:
            return
        seen.add(statement)
        raise Interrupted(statement)

    event.listen(Engine, "after_cursor_execute", after)
    try:
        yield
    finally:
        event.remove(Engine, "after_cursor_execute", after)


def test_an_upgrade_goes_on_wherever_the_one_before_stopped(database_url, empty_database_url):
    settings = database_settings(empty_database_url)
    seen: set[str] = set()
    stops = 0
    with interrupted_after_each_new_statement(seen):
        while True:
            try:
                upgrade(settings)
                break
            except Interrupted:
                stops += 1
    assert stops == len(seen) > 60
    assert drift(settings) is None
    assert snapshot(empty_database_url) == snapshot(database_url)
    assert invalid_indexes(empty_database_url) == []


def test_what_postgres_refuses_is_told_in_a_sentence(empty_database_url):
    """A limit of the role strikes in the middle; the next upgrade goes on."""
    settings = database_settings(empty_database_url)
    seen: set[str] = set()

    def cancel(conn, cursor, statement, parameters, context, executemany):
        if "CREATE INDEX" in statement and not seen:
            seen.add(statement)
            cursor.execute("SET statement_timeout = '1ms'")
            cursor.execute("SELECT pg_sleep(1)")

    event.listen(Engine, "before_cursor_execute", cancel)
    try:
        with pytest.raises(StartupRefusal, match=r"HR319 .*canceling statement.* again"):
            upgrade(settings)
    finally:
        event.remove(Engine, "before_cursor_execute", cancel)
    assert upgrade(settings) == known_revisions()[-1]
    assert drift(settings) is None
