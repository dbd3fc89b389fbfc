"""Vectors of another model, made beside the old ones, and what servers write meanwhile."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from langgraph.store.base import ensure_embeddings

from headrace.checkpoints.embedder import Embedder
from headrace.checkpoints.reindex import Reindexed, reindexing
from headrace.checkpoints.store import Store
from headrace.checkpoints.store_index import ItemIndexer
from headrace.db.vector_index import VectorIndex
from headrace.errors import StartupRefusal
from headrace.index_settings import IndexSettings
from headrace.unavailable_errors import IndexChanged
from tests.checkpoints.indexed import INDEX, Figures, open_store
from tests.support.database import database_settings, open_pool
from tests.support.words import DIMS, aembed, embed, wider

ADA = ("notes", "ada")
WIDER = VectorIndex(dims=2 * DIMS, embed="./words.py:wider", fields=("text",))


@pytest.fixture
async def pool(database_url):
    async with open_pool(database_url, pool_min=4, pool_max=4) as opened:
        yield opened


async def rows(pool, query: str):
    async with pool.connection() as connection:
        cursor = await connection.execute(query)
        return await cursor.fetchall()


@asynccontextmanager
async def opened(url, index, model, *, batch=10, **settings):
    chosen = IndexSettings(**settings)
    embedder = Embedder(ensure_embeddings(model), index, chosen, Figures().metrics)
    indexer = ItemIndexer(index, chosen, embedder)
    try:
        async with reindexing(database_settings(url), indexer, index, batch=batch) as work:
            yield work
    finally:
        await embedder.close()


async def reindex(url, index, model, *, everything=False, batch=10, **settings) -> Reindexed:
    async with opened(url, index, model, batch=batch, **settings) as work:
        told: list[Reindexed] = [one async for one in work.run(everything=everything)]
        return told[-1]


async def column(pool) -> str:
    ((kind,),) = await rows(
        pool,
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = 'store_vectors'::regclass AND attname = 'embedding'",
    )
    return str(kind)


async def fill(store, count=35):
    await asyncio.gather(*[store.aput(ADA, f"k{n:02}", {"text": f"tea {n}"}) for n in range(count)])
    await store.aput(ADA, "left-out", {"text": "tea"}, index=False)
    await store.aput(ADA, "title", {"text": "tea", "title": "river"}, index=["title"])


async def test_another_model_takes_the_place_of_the_first(database_url, pool):
    async with open_store(database_url, pool) as store:
        await fill(store)
        with pytest.raises(StartupRefusal, match=r"HR333.*vector\(128\).*headrace store reindex"):
            async with open_store(database_url, pool, WIDER, wider, prepared=False):
                pass
        done = await reindex(database_url, WIDER, wider)
        assert (done.items, done.vectors, done.rebuilt) == (36, 36, True)
        assert await column(pool) == "vector(128)"
        # A server with the old manifest says what happened.
        with pytest.raises(IndexChanged):
            await store.aput(ADA, "late", {"text": "tea"})
        with pytest.raises(IndexChanged):
            await store.asearch(ADA, query="tea")
    async with open_store(database_url, pool, WIDER, wider, prepared=False) as store:
        (found,) = await store.asearch(ADA, query="tea 7", limit=1)
        assert found.key == "k07"
        assert found.score == pytest.approx(1)
        names = "SELECT key, field_name FROM store_vectors WHERE key !~ '^k'"
        assert await rows(pool, names) == [("title", "title")]
    names = await rows(
        pool,
        "SELECT indexrelid::regclass::text FROM pg_index"
        " WHERE indrelid = 'store_vectors'::regclass ORDER BY 1",
    )
    assert names == [("store_vectors_embedding_idx",), ("store_vectors_pkey",)]
    assert await rows(pool, "SELECT to_regclass('store_vectors_next')") == [(None,)]
    # Nothing is left to do.
    done = await reindex(database_url, WIDER, wider)
    assert (done.items, done.rebuilt) == (0, False)


async def test_items_from_before_the_index_are_embedded(database_url, pool):
    plain = Store(pool, observe=lambda operation, seconds: None)
    await plain.aput(ADA, "old", {"text": "tea"})
    await plain.close()
    async with open_store(database_url, pool) as store:
        assert await store.asearch(ADA, query="tea") == []
        done = await reindex(database_url, INDEX, embed)
        assert (done.items, done.vectors, done.rebuilt) == (1, 1, False)
        (found,) = await store.asearch(ADA, query="tea")
        assert found.key == "old"


async def test_it_makes_the_tables_where_there_are_none(database_url, pool):
    done = await reindex(database_url, INDEX, embed)
    assert (done.items, done.rebuilt) == (0, False)
    async with open_store(database_url, pool, prepared=False) as store:
        await store.aput(ADA, "k", {"text": "tea"})
        assert len(await store.asearch(ADA, query="tea")) == 1


async def test_a_stopped_one_goes_on_where_it_stopped(database_url, pool):
    seen: list[str] = []

    async def model(texts):
        seen.extend(texts)
        if len(seen) > 20:
            raise ConnectionError("away")
        return [[one * 1.0 for one in vector] for vector in wider(texts)]

    async with open_store(database_url, pool) as store:
        await fill(store)
        with pytest.raises(StartupRefusal, match=r"HR334.*ConnectionError"):
            await reindex(database_url, WIDER, model, attempts=1)
        # Until the exchange, servers search the vectors of the first model.
        assert len(await store.asearch(ADA, query="tea", limit=40)) == 36
    (((progress),),) = await rows(pool, "SELECT rebuild FROM store_index")
    assert (progress["key"], progress["done"]) == ("k19", False)
    seen.clear()
    done = await reindex(database_url, WIDER, wider)
    assert done.rebuilt
    async with open_store(database_url, pool, WIDER, wider, prepared=False) as store:
        assert len(await store.asearch(ADA, query="tea", limit=40)) == 36


async def test_what_changes_meanwhile_is_made_up_for(database_url, pool):
    async with open_store(database_url, pool) as store:
        await fill(store)
        async with opened(database_url, WIDER, wider) as work:
            rounds = 0
            async for _ in work.run(everything=False):
                rounds += 1
                if rounds == 2:
                    await store.aput(ADA, "k00", {"text": "piano"})
                    await store.aput(ADA, "new", {"text": "violin"})
                    await store.adelete(ADA, "k01")
    async with open_store(database_url, pool, WIDER, wider, prepared=False) as store:
        for text, key in {"piano": "k00", "violin": "new"}.items():
            (found,) = await store.asearch(ADA, query=text, limit=1)
            assert found.key == key
            assert found.score == pytest.approx(1)
        keys = {item.key for item in await store.asearch(ADA, query="tea", limit=100)}
        assert "k01" not in keys
        assert len(keys) == 36


async def test_an_item_that_changes_under_its_embedding_keeps_its_own_vector(database_url, pool):
    plain = Store(pool, observe=lambda operation, seconds: None)
    await plain.aput(ADA, "k", {"text": "tea"})
    await plain.close()
    async with open_store(database_url, pool) as store:

        async def model(texts):
            if texts == ["tea"]:
                await store.aput(ADA, "k", {"text": "piano"})
            return await aembed(texts)

        await reindex(database_url, INDEX, model)
        (found,) = await store.asearch(ADA, query="piano")
        assert found.score == pytest.approx(1)


async def test_an_item_that_the_model_cannot_take_is_left_out(database_url, pool):
    async with open_store(database_url, pool) as store:
        await store.aput(ADA, "long", {"text": "tea " * 100})
        await store.aput(ADA, "short", {"text": "tea"})
    done = await reindex(database_url, WIDER, wider, text_bytes=50)
    assert (done.items, done.vectors) == (1, 1)
    assert list(done.refused) == [("notes.ada", "long")]


async def test_only_one_runs_at_a_time(database_url, pool):
    async with (
        open_store(database_url, pool) as store,
        opened(database_url, WIDER, wider) as first,
    ):
        await fill(store)
        running = first.run(everything=False)
        await anext(running)
        with pytest.raises(StartupRefusal, match="HR314"):
            await reindex(database_url, WIDER, wider)
        async for _ in running:
            pass


@pytest.mark.parametrize(
    ("index", "found"),
    [
        (VectorIndex(DIMS, INDEX.embed, ("text",), kind="flat"), []),
        (
            VectorIndex(DIMS, INDEX.embed, ("text",), kind="ivfflat", options=(("lists", 2),)),
            ["USING ivfflat (embedding) WITH (lists='2')"],
        ),
        (
            VectorIndex(DIMS, INDEX.embed, ("text",), distance="l2", options=(("m", 8),)),
            ["USING hnsw (embedding vector_l2_ops) WITH (m='8')"],
        ),
    ],
)
async def test_another_index_on_the_vectors_embeds_nothing_anew(database_url, pool, index, found):
    async with open_store(database_url, pool) as store:
        await fill(store, count=5)
    done = await reindex(database_url, index, embed)
    assert not done.rebuilt
    made = await rows(
        pool,
        "SELECT substring(indexdef FROM 'USING .*') FROM pg_indexes"
        " WHERE indexname = 'store_vectors_embedding_idx'",
    )
    assert len(made) == len(found)
    for (definition,), wanted in zip(made, found, strict=True):
        assert definition.replace(" vector_cosine_ops", "") == wanted
    async with open_store(database_url, pool, index, prepared=False) as store:
        assert (await store.asearch(ADA, query="tea 3", limit=1))[0].key == "k03"


async def test_other_fields_are_embedded_anew(database_url, pool):
    async with open_store(database_url, pool) as store:
        await store.aput(ADA, "k", {"text": "tea", "title": "river"})
    titles = VectorIndex(DIMS, INDEX.embed, ("title",))
    assert (await reindex(database_url, titles, embed)).rebuilt
    assert await rows(pool, "SELECT field_name FROM store_vectors") == [("title",)]
