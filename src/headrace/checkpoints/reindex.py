"""Makes the vectors of store items: those that are missing, or all of them for another model.

Vectors of another model come into a table of their own, beside the one that servers use. It takes
its place when it is complete, in one transaction. Each batch is committed with how far it has come,
so a reindex that was stopped goes on there. What servers write meanwhile is made up for: items that
have changed are embedded again, and those of the last moments right after the exchange.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql

from headrace.checkpoints.store_index import IndexedItem, ItemIndexer
from headrace.checkpoints.vector_sql import VectorSql, forgetting
from headrace.database_settings import DatabaseSettings
from headrace.db.logins import login_of
from headrace.db.pool import Connection
from headrace.db.statements import Statement, statement, use_schema
from headrace.db.vector_index import ANN_INDEX, VECTORS, VectorIndex
from headrace.db.vector_tables import (
    VectorTables,
    make_ann_index,
    make_vectors,
    named,
    note_index,
    prepare_vectors,
    read_vector_tables,
)
from headrace.errors import InvalidRequest, StartupRefusal
from headrace.unavailable_errors import EmbeddingFailed

NEXT, _NEXT_INDEX = "store_vectors_next", "store_vectors_next_embedding_idx"

#: The session advisory lock of a reindex.
_LOCK_KEY = int.from_bytes(b"reindex!", "big")

#: A transaction that began before a pass may commit its items after it, with the time of its begin.
_OVERLAP = "interval '1 minute'"

#: Passes over changed items before the exchange. Each is shorter than the one before.
_MOST_PASSES = 5
_EXCHANGE_TRIES = 20

_LIVES = "(store.expires_at IS NULL OR store.expires_at > now())"

_ITEMS = f"""
SELECT store.prefix, store.key, store.value, store.updated_at, named.paths
FROM store LEFT JOIN store_index_paths AS named
  ON named.prefix = store.prefix AND named.key = store.key
WHERE (store.prefix, store.key) > (%(prefix)s, %(key)s) AND {_LIVES} AND {{condition}}
ORDER BY store.prefix, store.key LIMIT %(limit)s
"""  # noqa: S608 - of constants

_ALL: Statement = statement(_ITEMS.format(condition="TRUE"))
_CHANGED = statement(
    _ITEMS.format(
        condition="store.updated_at >= %(since)s AND NOT EXISTS ("
        "SELECT FROM store_vectors_next AS next WHERE next.prefix = store.prefix"
        " AND next.key = store.key AND next.updated_at = store.updated_at)"
    )
)
_MISSING = statement(
    _ITEMS.format(
        condition="NOT EXISTS (SELECT FROM store_vectors AS sv"
        " WHERE sv.prefix = store.prefix AND sv.key = store.key)"
        " AND named.paths IS DISTINCT FROM '[]'"
    )
)

#: Keeps the items of a batch as they are until their vectors are written. Those that have changed
#: meanwhile are left out.
_HOLD = statement("""
SELECT store.prefix, store.key FROM store
JOIN unnest(%s::text[], %s::text[], %s::timestamptz[]) AS given (prefix, key, updated_at)
  ON store.prefix = given.prefix AND store.key = given.key
  AND store.updated_at = given.updated_at
FOR SHARE OF store
""")

_BEGIN = statement("""
INSERT INTO store_index (dims, vector_type, embed, fields, rebuild)
VALUES (0, '', '', '[]', %(rebuild)s::jsonb)
ON CONFLICT (only_row) DO UPDATE SET rebuild = EXCLUDED.rebuild, updated_at = now()
""")

_DROP_CHANGED = statement("""
DELETE FROM store_vectors_next AS next USING store
WHERE next.prefix = store.prefix AND next.key = store.key AND store.updated_at >= %s
  AND store.updated_at <> next.updated_at
""")


@dataclass(slots=True)
class Reindexed:
    """What a reindex has done so far.

    :ivar items: those that got vectors; one that has changed meanwhile counts again.
    :ivar refused: items that are left out, and why: a text is too long, or the model refuses it.
    """

    items: int = 0
    vectors: int = 0
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    rebuilt: bool = False


@dataclass(slots=True)
class _Progress:
    """How far a rebuild has come, as ``store_index.rebuild`` keeps it."""

    column_type: str
    embed: str
    fields: Sequence[str]
    began: str
    prefix: str = ""
    key: str = ""
    done: bool = field(default=False)


@asynccontextmanager
async def reindexing(
    settings: DatabaseSettings, indexer: ItemIndexer, index: VectorIndex, *, batch: int
) -> AsyncIterator["Reindex"]:
    """A reindex on a connection of its own, with the role of migrations.

    :param batch: items that are read, embedded and committed together.
    :raises StartupRefusal: HR303, HR304 the URL of the database.
    """
    login = login_of(settings, migrations=True)
    connection = await login.connect(
        AsyncConnection.connect, autocommit=True, prepare_threshold=None
    )
    try:
        use_schema(connection, settings.schema_name)
        yield Reindex(connection, indexer, index, batch=batch)
    finally:
        await connection.close()


class Reindex:
    """One run of the command; see :func:`reindexing`."""

    def __init__(
        self, connection: Connection, indexer: ItemIndexer, index: VectorIndex, *, batch: int
    ) -> None:
        self._connection = connection
        self._indexer = indexer
        self._index = index
        self._batch = batch
        self._done = Reindexed()

    async def run(self, *, everything: bool) -> AsyncIterator[Reindexed]:
        """Do it; yields what was done after each batch.

        :param everything: make all vectors anew, also if only some are missing.
        :raises StartupRefusal: HR331 the extension, HR317 the name of the table, HR314 another
            reindex runs, HR334 the model failed, HR315 a table was in use for too long.
        """
        await self._lock()
        found = await read_vector_tables(self._connection)
        if found.column_type is None or self._may_adopt(found):
            await prepare_vectors(self._connection, self._index)
            found = await read_vector_tables(self._connection)
        fits = found.fits(self._index) and found.fields == self._index.fields
        if everything or not fits or self._begun(found) is not None:
            self._done.rebuilt = True
            async for done in self._rebuild(found):
                yield done
        async for done in self._pass(_MISSING, VECTORS, found.home, {}):
            yield done
        await self._mend_ann_index(found.home)
        yield self._done

    def _may_adopt(self, found: VectorTables) -> bool:
        return found.embed is None and found.holds(self._index)

    async def _lock(self) -> None:
        cursor = await self._connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK_KEY,))
        row = await cursor.fetchone()
        if not (row and row[0]):
            raise StartupRefusal(
                "HR314",
                where="store.index",
                what="another reindex of this database runs",
                remedy="Wait for it, or end its session in pg_stat_activity.",
            )

    def _begun(self, found: VectorTables) -> _Progress | None:
        """The rebuild that was begun for this index, if there is one."""
        given = found.rebuild
        if given is None:
            return None
        progress = _Progress(**given)
        index = self._index
        wanted = (index.column_type, index.embed, list(index.fields))
        fits = (progress.column_type, progress.embed, list(progress.fields)) == wanted
        return progress if fits else None

    async def _rebuild(self, found: VectorTables) -> AsyncIterator[Reindexed]:
        progress = self._begun(found) or await self._begin(found.home)
        if not progress.done:
            async for done in self._pass(_ALL, NEXT, found.home, {}, progress):
                yield done
            progress.done = True
            await self._note(progress)
        since = progress.began
        for _ in range(_MOST_PASSES):
            before, now = self._done.items, await self._now()
            async for done in self._pass(_CHANGED, NEXT, found.home, {"since": since}):
                yield done
            since = now
            if self._done.items - before <= self._batch:
                break
        await make_ann_index(self._connection, NEXT, _NEXT_INDEX, self._index, found.home)
        await self._exchange(since)

    async def _begin(self, home: str) -> _Progress:
        await self._connection.execute(
            sql.SQL("DROP TABLE IF EXISTS {}").format(await named(self._connection, NEXT))
        )
        await make_vectors(self._connection, NEXT, self._index, home)
        index = self._index
        progress = _Progress(index.column_type, index.embed, index.fields, await self._now())
        await self._note(progress)
        return progress

    async def _note(self, progress: _Progress) -> None:
        await self._connection.execute(_BEGIN, {"rebuild": json.dumps(asdict(progress))})

    async def _now(self) -> str:
        cursor = await self._connection.execute(f"SELECT (now() - {_OVERLAP})::text")
        row = await cursor.fetchone()
        assert row is not None
        return str(row[0])

    async def _pass(
        self,
        items: Statement,
        table: str,
        home: str,
        values: Mapping[str, Any],
        progress: _Progress | None = None,
    ) -> AsyncIterator[Reindexed]:
        """Embed these items in batches, in the order of their keys."""
        at = (progress.prefix, progress.key) if progress else ("", "")
        insert = VectorSql(self._index, home).insert_into(table)
        while True:
            bounds = {"prefix": at[0], "key": at[1], "limit": self._batch}
            cursor = await self._connection.execute(items, {**values, **bounds})
            rows = await cursor.fetchall()
            if not rows:
                return
            made = await asyncio.gather(*[self._made(row) for row in rows])
            at = (rows[-1][0], rows[-1][1])
            if progress is not None:
                progress.prefix, progress.key = at
            async with self._connection.transaction():
                await self._write(rows, made, table, insert)
                if progress is not None:
                    await self._note(progress)
            yield self._done

    async def _made(self, row: Sequence[Any]) -> IndexedItem | None:
        """What the index keeps of an item; None if it cannot be embedded."""
        prefix, key, value, _, paths = row
        try:
            return await self._indexer.indexed(value, None if paths is None else tuple(paths))
        except InvalidRequest as refusal:
            self._done.refused[prefix, key] = refusal.message
            return None
        except EmbeddingFailed as failure:
            raise StartupRefusal(
                "HR334",
                where=f"store.index.embed ({self._index.embed})",
                what=f"the model made no vectors ({failure.__cause__ or failure})",
                remedy="Correct that and run the command again: it goes on where it stopped.",
            ) from failure

    async def _write(
        self,
        rows: Sequence[Sequence[Any]],
        made: Sequence[IndexedItem | None],
        table: str,
        insert: Statement,
    ) -> None:
        columns = [[row[number] for row in rows] for number in (0, 1, 3)]
        cursor = await self._connection.execute(_HOLD, columns)
        held = {(prefix, key) for prefix, key in await cursor.fetchall()}
        if not held:
            return
        keys = [list(column) for column in zip(*held, strict=True)]
        await self._connection.execute(forgetting(table), keys)
        vectors = [
            (row[0], row[1], name, vector, row[3])
            for row, item in zip(rows, made, strict=True)
            if item is not None and (row[0], row[1]) in held
            for name, vector in item.vectors.items()
        ]
        if vectors:
            await self._connection.execute(
                insert, [list(column) for column in zip(*vectors, strict=True)]
            )
        self._done.items += len({(prefix, key) for prefix, key, *_ in vectors})
        self._done.vectors += len(vectors)

    async def _exchange(self, since: str) -> None:
        """Let the new table take the place of the old one."""
        for _ in range(_EXCHANGE_TRIES):
            try:
                async with self._connection.transaction():
                    await self._connection.execute("SET LOCAL lock_timeout = '2s'")
                    await self._exchange_now(since)
            except psycopg.errors.LockNotAvailable:
                await asyncio.sleep(1)
            else:
                return
        raise StartupRefusal(
            "HR315",
            where="table store",
            what="transactions have held it for too long",
            remedy="Run the command again: only the exchange of the tables is left.",
        )

    async def _exchange_now(self, since: str) -> None:
        run, name = self._connection.execute, self._connection
        old, new = await named(name, VECTORS), await named(name, NEXT)
        store = await named(name, "store")
        # Dropping a foreign key needs this lock. No put may come in between.
        await run(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(store))
        await run(_DROP_CHANGED, (since,))
        await run(sql.SQL("DROP TABLE {}").format(old))
        await run(sql.SQL("ALTER TABLE {} RENAME TO {}").format(new, sql.Identifier(VECTORS)))
        renamed = {f"{NEXT}_pkey": f"{VECTORS}_pkey"}
        if self._index.kind != "flat":
            renamed[_NEXT_INDEX] = ANN_INDEX
        for before, after in renamed.items():
            await run(
                sql.SQL("ALTER INDEX {} RENAME TO {}").format(
                    await named(name, before), sql.Identifier(after)
                )
            )
        await run(
            sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {}").format(
                old,
                sql.Identifier(f"{NEXT}_prefix_key_fkey"),
                sql.Identifier(f"{VECTORS}_prefix_key_fkey"),
            )
        )
        await note_index(self._connection, self._index)

    async def _mend_ann_index(self, home: str) -> None:
        """Make the index on the vectors anew if it is not the one that the manifest asks for."""
        found = await read_vector_tables(self._connection)
        if found.ann == self._index.ann:
            return
        name = await named(self._connection, ANN_INDEX)
        await self._connection.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(name))
        await make_ann_index(
            self._connection, VECTORS, ANN_INDEX, self._index, home, concurrently=True
        )
