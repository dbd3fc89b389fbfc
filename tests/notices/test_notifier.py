"""Hints between processes: they arrive soon, in few transactions, and a loss is survived."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from headrace.ids import uuid7
from headrace.notices.notifier import Listeners, PostgresNotifier
from tests.support.database import open_pool
from tests.support.waiting import eventually


class Ear:
    def __init__(self, notifier: PostgresNotifier) -> None:
        self.runs: list[object] = []
        self.queue = 0
        self.gaps = 0
        notifier.listeners.add(on_run=self.runs.append, on_queue=self._queue, on_any=self._gap)

    def _queue(self) -> None:
        self.queue += 1

    def _gap(self) -> None:
        self.gaps += 1


@asynccontextmanager
async def listening(pool):
    """What another process hears."""
    hearer = PostgresNotifier(pool)
    ear = Ear(hearer)
    await hearer.start()
    await eventually(lambda: hearer.connected)
    yield ear
    await hearer.stop()


async def test_many_notices_travel_in_few_transactions(database_url):
    sent: list[str] = []
    async with open_pool(database_url) as pool:
        teller = PostgresNotifier(pool, count=sent.append)
        hearer = PostgresNotifier(pool)
        ear = Ear(hearer)
        await teller.start()
        await hearer.start()
        await eventually(lambda: hearer.connected and teller.connected)
        runs = [uuid7() for _ in range(300)]
        for run_id in (*runs, *runs):
            teller.run_changed(run_id)
        teller.queue_changed()
        await eventually(lambda: len(ear.runs) >= 300)
        await eventually(lambda: ear.queue > 1)
        assert ear.runs == runs
        assert sent.count("sent") <= 3
        await teller.stop()
        await hearer.stop()


async def test_a_listener_that_is_killed_comes_back_and_says_that_it_may_have_missed_something(
    database_url,
):
    async with open_pool(database_url) as pool:
        notifier = PostgresNotifier(pool)
        ear = Ear(notifier)
        await notifier.start()
        await eventually(lambda: ear.gaps == 1)
        with psycopg.connect(database_url, autocommit=True) as database:
            database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE query = 'LISTEN headrace' AND datname = current_database()"
            )
        await eventually(lambda: ear.gaps == 2)
        run_id = uuid7()
        notifier.run_changed(run_id)
        await eventually(lambda: ear.runs == [run_id])
        await notifier.stop()
        await asyncio.sleep(0)


class Interrupted:
    """A pool, and a call that comes just before a statement, or just after it, has run."""

    def __init__(self, pool, call, *, before):
        self._pool, self._call, self._before = pool, call, before

    def __getattr__(self, name):
        return getattr(self._pool, name)

    @asynccontextmanager
    async def connection(self):
        async with self._pool.connection() as connection:
            self._connection = connection
            yield self

    async def execute(self, *statement):
        if self._before:
            self._call()
        await self._connection.execute(*statement)
        if not self._before:
            self._call()


@pytest.mark.parametrize("before", [True, False])
async def test_what_is_told_while_the_same_is_being_sent_is_sent_again(database_url, before):
    """The first notice may say that a run has events, the second that it has ended."""
    run_id = uuid7()
    told: list[object] = []
    async with open_pool(database_url) as pool, listening(pool) as ear:

        def tell_again():
            if not told:
                told.append(run_id)
                teller.run_changed(run_id)

        interrupted: Any = Interrupted(pool, tell_again, before=before)
        teller = PostgresNotifier(interrupted)
        await teller.start()
        teller.run_changed(run_id)
        await eventually(lambda: ear.runs == [run_id, run_id])
        await teller.stop()


async def test_what_could_not_be_sent_is_sent_later(database_url):
    run_id = uuid7()
    killed: list[object] = []
    async with open_pool(database_url) as pool, listening(pool) as ear:

        def kill():
            if killed:
                return
            with psycopg.connect(database_url, autocommit=True) as database:
                killed.extend(
                    database.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE pid <> pg_backend_pid() AND datname = current_database()"
                        " AND query <> 'LISTEN headrace'"
                    ).fetchall()
                )

        interrupted: Any = Interrupted(pool, kill, before=True)
        teller = PostgresNotifier(interrupted)
        await teller.start()
        teller.run_changed(run_id)
        await eventually(lambda: ear.runs == [run_id])
        assert ear.gaps == 1
        await teller.stop()


def test_lines_of_a_newer_release_are_passed_over():
    heard: list[object] = []
    listeners = Listeners()
    listeners.add(on_run=heard.append)
    run_id = uuid7()
    listeners.heard(f"z what\nr nonsense\nr {run_id}\n")
    assert heard == [run_id]
