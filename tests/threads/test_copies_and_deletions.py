"""A copy and a deletion of its source at one time: one of them comes first."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from headrace.auth.principal import Principal
from headrace.erasure.purge import purge
from headrace.erasure.subject import Subject
from headrace.errors import Conflict, ThreadBusy
from headrace.threads.copies import ThreadCopies
from tests.support.database import database_settings, open_pool
from tests.support.engine import open_writer
from tests.support.waiting import eventually

ADA = Principal("ada", "acme", whole_tenant=False)
TABLES = ("checkpoint_writes", "checkpoint_blobs", "checkpoints", "threads")
#: The deletion of a thread, as threads/removal.sql and erasure/erasure.sql have it.
DELETION = (
    "SELECT FROM threads WHERE thread_id = %s FOR UPDATE",
    *(f"DELETE FROM {table} WHERE thread_id = %s" for table in TABLES),
)

Execute = Callable[..., Any]


async def make(execute: Execute, thread_id: str, *, tenant: str, owner: str, word: str) -> None:
    """A thread with the word in its metadata and in its only checkpoint."""
    await execute(
        "INSERT INTO threads (thread_id, tenant, owner, metadata)"
        " VALUES (%s, %s, %s, jsonb_build_object('word', %s::text))",
        (thread_id, tenant, owner, word),
    )
    await execute(
        "INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint)"
        " VALUES (%s, '1', jsonb_build_object('word', %s::text))",
        (thread_id, word),
    )


def words(database: psycopg.Connection[Any], thread_id: str) -> list[str]:
    """What the row and the checkpoints of a thread say."""
    found = database.execute(
        "SELECT metadata ->> 'word' FROM threads WHERE thread_id = %(id)s UNION ALL"
        " SELECT checkpoint ->> 'word' FROM checkpoints WHERE thread_id = %(id)s",
        {"id": thread_id},
    )
    return [row[0] for row in found]


def waits_for_locks(database: psycopg.Connection[Any]) -> int:
    row = database.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database()"
    ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.fixture
async def copies(database_url) -> AsyncIterator[ThreadCopies]:
    async with open_pool(database_url) as pool, open_writer(pool) as writer:
        yield ThreadCopies(pool, writer)


@pytest.fixture
async def other(database_url) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as opened:
        yield opened


@pytest.fixture
def held(copies, database, database_url):
    """A copy that has read its source, and cannot write its own row before the block ends."""

    @asynccontextmanager
    async def copying(source: str, target: str) -> AsyncIterator[asyncio.Task[Any]]:
        async with await psycopg.AsyncConnection.connect(database_url) as gate:
            await gate.execute("INSERT INTO threads (thread_id) VALUES (%s)", (target,))
            copy = asyncio.create_task(copies.copy(ADA, source, target))
            await eventually(lambda: waits_for_locks(database) == 1)
            yield copy
            await gate.rollback()

    return copying


async def waited_or_done(database, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """The work, once it has ended or waits for a lock beside the copy."""
    task = asyncio.ensure_future(work)
    await eventually(lambda: task.done() or waits_for_locks(database) == 2)
    return task


async def test_a_copy_has_nothing_of_a_thread_that_is_made_with_the_id_later(
    database, database_url, other, held
):
    source, target = str(uuid4()), str(uuid4())
    await make(other.execute, source, tenant="acme", owner="ada", word="of ada")

    async def replaced() -> None:
        async with other.transaction():
            for statement in DELETION:
                await other.execute(statement, (source,))
        await make(other.execute, source, tenant="globex", owner="eve", word="of eve")

    async with held(source, target) as copy:
        replacing = await waited_or_done(database, replaced())
    await asyncio.gather(copy, replacing)
    assert words(database, target) == ["of ada", "of ada"]
    assert words(database, source) == ["of eve", "of eve"]


async def test_a_purge_finds_a_copy_that_is_made_meanwhile(database, database_url, other, held):
    source, target = str(uuid4()), str(uuid4())
    await make(other.execute, source, tenant="acme", owner="ada", word="of ada")
    settings = database_settings(database_url)
    erase = partial(purge, settings, Subject("acme", "ada"), dry_run=False, stop_seconds=0.1)
    async with held(source, target) as copy:
        erasing = await waited_or_done(database, asyncio.to_thread(erase))
    await copy
    erasure = await erasing
    assert (words(database, source), words(database, target)) == ([], [])
    assert erasure.left == {}
    assert erasure.rows["threads"] == 2


async def test_a_copy_of_what_is_being_deleted_finds_nothing(database, database_url, copies):
    source, target = str(uuid4()), str(uuid4())
    async with await psycopg.AsyncConnection.connect(database_url) as deleting:
        await make(deleting.execute, source, tenant="acme", owner="ada", word="of ada")
        await deleting.commit()
        for statement in DELETION:
            await deleting.execute(statement, (source,))
        copy = asyncio.create_task(copies.copy(ADA, source, target))
        await eventually(lambda: waits_for_locks(database) == 1)
        await deleting.commit()
        with pytest.raises(Conflict) as refused:
            await copy
    assert not isinstance(refused.value, ThreadBusy)
    assert words(database, target) == []


async def test_copies_and_deletions_without_an_order(database, database_url, copies):
    """Many at once, with one id: what a copy says is what one thread of Ada's has said."""
    source, made = str(uuid4()), list[str]()

    async def replace(connection: psycopg.AsyncConnection[Any]) -> None:
        for number in range(60):
            async with connection.transaction():
                for statement in DELETION:
                    await connection.execute(statement, (source,))
                owner = "eve" if number % 2 else "ada"
                word = f"{owner} {number}"
                await make(connection.execute, source, tenant="acme", owner=owner, word=word)

    async def copy(replacing: asyncio.Task[None]) -> None:
        while not replacing.done():
            target = str(uuid4())
            try:
                await copies.copy(ADA, source, target)
            except Conflict:
                continue
            made.append(target)

    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        replacing = asyncio.create_task(replace(connection))
        await asyncio.gather(replacing, *(copy(replacing) for _ in range(3)))
    said = [words(database, target) for target in made]
    assert said
    assert all(len(one) == 2 and len(set(one)) == 1 for one in said), said
    assert all(one[0].startswith("ada") for one in said)
