"""The store with a semantic index: what is found, in which order, and what becomes of vectors."""

import asyncio
import random
from typing import Any

import pytest
from langgraph.store.base import GetOp, InvalidNamespaceError, PutOp, SearchOp, TTLConfig
from langgraph.store.postgres.aio import AsyncPostgresStore
from langgraph.store.postgres.base import PostgresIndexConfig

from headrace.checkpoints.scoped_store import ScopedStore
from headrace.checkpoints.store_sweeper import StoreSweeper
from headrace.db.migrate import upgrade
from headrace.db.vector_index import VectorIndex
from headrace.errors import InvalidRequest
from headrace.unavailable_errors import EmbeddingFailed
from tests.checkpoints.indexed import INDEX, Figures, open_store
from tests.support.database import database_settings, open_pool
from tests.support.waiting import eventually
from tests.support.words import DIMS, aembed, cosine, embed, vector

ADA, BOB = ("notes", "ada"), ("notes", "bob")

WORDS = [
    "tea",
    "coffee",
    "cake",
    "bread",
    "river",
    "train",
    "cloud",
    "garden",
    "winter",
    "summer",
    "piano",
    "violin",
]


@pytest.fixture
async def pool(database_url):
    async with open_pool(database_url, pool_min=6, pool_max=6) as opened:
        yield opened


@pytest.fixture
async def store(database_url, pool):
    async with open_store(database_url, pool) as opened:
        yield opened


async def rows(pool, query: str = "SELECT key, field_name FROM store_vectors ORDER BY 1, 2"):
    async with pool.connection() as connection:
        cursor = await connection.execute(query)
        return await cursor.fetchall()


def keys(found) -> list[str]:
    return [item.key for item in found]


async def test_the_closest_comes_first_with_its_score(store):
    await store.aput(ADA, "tea", {"text": "ada likes green tea"})
    await store.aput(ADA, "bike", {"text": "the bike is red"})
    await store.aput(BOB, "tea", {"text": "bob drinks green tea"})
    found = await store.asearch(ADA, query="green tea")
    assert keys(found) == ["tea", "bike"]
    assert found[0].value == {"text": "ada likes green tea"}
    assert found[0].namespace == ADA
    assert found[0].score == pytest.approx(
        cosine(vector("green tea"), vector("ada likes green tea")), abs=1e-6
    )
    assert {item.namespace for item in await store.asearch(("notes",), query="tea")} == {ADA, BOB}
    assert await store.asearch(("note",), query="tea") == []
    assert await store.asearch(("notes", "ad"), query="tea") == []


@pytest.mark.parametrize("kind", ["hnsw", "ivfflat", "flat"])
@pytest.mark.parametrize("vector_type", ["vector", "halfvec"])
async def test_the_order_is_that_of_every_cosine_compared(database_url, pool, kind, vector_type):
    options = (("lists", 1),) if kind == "ivfflat" else ()
    index = VectorIndex(
        dims=DIMS, embed="m", fields=("text",), vector_type=vector_type, kind=kind, options=options
    )
    rng = random.Random(7)
    texts = {
        (("n", str(number % 3)), str(number)): " ".join(rng.choices(WORDS, k=6))
        for number in range(150)
    }
    figures = Figures()
    async with open_store(database_url, pool, index, figures=figures, exact_items=20) as store:
        await asyncio.gather(*[store.aput(*key, {"text": text}) for key, text in texts.items()])
        for query in ("tea cake", "winter garden piano"):
            for scope in ((), ("n",), ("n", "1")):
                found = await store.asearch(scope, query=query, limit=10, offset=5)
                inside = {key: text for key, text in texts.items() if key[0][: len(scope)] == scope}
                scores = sorted(
                    (cosine(vector(query), vector(text)) for text in inside.values()), reverse=True
                )
                # Texts with equal words are equally close, so their order is free.
                tolerance = 2e-3 if vector_type == "halfvec" else 1e-6
                assert [item.score for item in found] == pytest.approx(scores[5:15], abs=tolerance)
    assert set(figures.plans()) <= ({"exact"} if kind == "flat" else {"index", "exact"})
    assert kind == "flat" or figures.plans()["index"]


async def test_how_it_is_searched_depends_on_the_namespace_and_not_on_statistics(
    database_url, pool
):
    figures = Figures()
    async with open_store(database_url, pool, figures=figures, exact_items=10) as store:
        for number in range(5):
            await store.aput(("few",), str(number), {"text": "tea"})
        for number in range(60):
            await store.aput(("many",), str(number), {"text": f"tea {number}", "n": number})
        assert len(await store.asearch(("few",), query="tea")) == 5
        assert figures.plans() == {"narrow": 1}
        assert len(await store.asearch(("many",), query="tea")) == 10
        assert figures.plans() == {"narrow": 1, "index": 1}
        # The index gives up before the page is full.
        found = await store.asearch(("many",), query="tea", filter={"n": 41})
        assert keys(found) == ["41"]
        assert figures.plans() == {"narrow": 1, "index": 1, "exact": 1}


async def test_a_filter_holds_and_pages_follow_each_other(store):
    for number in range(12):
        await store.aput(ADA, f"k{number:02}", {"text": f"tea {number}", "odd": number % 2})
    found = await store.asearch(ADA, query="tea", filter={"odd": 1})
    assert sorted(keys(found)) == [f"k{number:02}" for number in range(1, 12, 2)]
    whole = keys(await store.asearch(ADA, query="tea", limit=12))
    pages = [keys(await store.asearch(ADA, query="tea", limit=5, offset=at)) for at in (0, 5, 10)]
    assert [key for page in pages for key in page] == whole
    assert await store.asearch(ADA, query="tea", limit=0) == []
    assert await store.asearch(ADA, query="tea", filter={"odd": {"$gt": "0"}, "text": "x"}) == []
    with pytest.raises(ValueError, match="like"):
        await store.asearch(ADA, query="tea", filter={"odd": {"$like": "1"}})


async def test_index_names_what_is_embedded(store, pool):
    await store.aput(ADA, "default", {"text": "tea", "title": "river"})
    await store.aput(ADA, "none", {"text": "tea"}, index=False)
    await store.aput(ADA, "title", {"text": "tea", "title": "river"}, index=["title"])
    await store.aput(
        ADA, "list", {"parts": [{"t": "tea"}, {"t": "river"}]}, index=["parts[*].t", "missing"]
    )
    await store.aput(ADA, "nothing", {"other": 1})
    assert await rows(pool) == [
        ("default", "text"),
        ("list", "parts[*].t.0"),
        ("list", "parts[*].t.1"),
        ("title", "title"),
    ]
    found = await store.asearch(ADA, query="river")
    assert keys(found) == ["list", "title", "default"]
    assert [item.score for item in found[:2]] == pytest.approx([1, 1])
    # Without a query the index plays no part.
    assert len(await store.asearch(ADA)) == 5
    assert await rows(pool, "SELECT key, paths FROM store_index_paths ORDER BY 1") == [
        ("list", ["parts[*].t", "missing"]),
        ("none", []),
        ("title", ["title"]),
    ]


async def test_a_put_replaces_all_vectors_of_its_item(store, pool):
    await store.aput(ADA, "k", {"text": "tea", "title": "river"}, index=["text", "title"])
    await store.aput(ADA, "k", {"text": "piano"})
    assert await rows(pool) == [("k", "text")]
    (found,) = await store.asearch(ADA, query="piano")
    assert found.score == pytest.approx(1)
    await store.aput(ADA, "k", {"text": "piano"}, index=False)
    assert await rows(pool) == []
    assert await store.asearch(ADA, query="piano") == []
    await store.aput(ADA, "k", {"text": "tea"})
    await store.adelete(ADA, "k")
    assert await rows(pool) == []
    assert await rows(pool, "SELECT * FROM store_index_paths") == []


async def test_of_puts_to_one_key_the_last_wins_however_long_the_model_takes(database_url, pool):
    pauses = {"first": 0.2, "second": 0.0}

    async def model(texts):
        await asyncio.sleep(sum(pauses.get(text, 0) for text in texts))
        return await aembed(texts)

    async with open_store(database_url, pool, model=model, batch_texts=1) as store:
        first = asyncio.ensure_future(store.aput(ADA, "k", {"text": "first"}))
        await asyncio.sleep(0.01)
        second = asyncio.ensure_future(store.aput(ADA, "k", {"text": "second"}))
        await asyncio.sleep(0.01)
        third = asyncio.ensure_future(store.aput(ADA, "k", {"text": "third"}, index=False))
        await asyncio.gather(first, second, third)
        item = await store.aget(ADA, "k")
        assert item is not None
        assert item.value == {"text": "third"}
        assert await rows(pool) == []


async def test_no_connection_is_held_and_nobody_waits_while_the_model_is_asked(database_url, pool):
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def model(texts):
        asked.set()
        await go_on.wait()
        return await aembed(texts)

    async with open_store(database_url, pool, model=model) as store:
        put = asyncio.ensure_future(store.aput(ADA, "slow", {"text": "tea"}))
        search = asyncio.ensure_future(store.asearch(ADA, query="tea"))
        await asked.wait()
        await store.aput(ADA, "quick", {"text": "tea"}, index=False)
        assert keys(await store.asearch(ADA)) == ["quick"]
        assert pool.figures().in_use == 0
        assert not put.done()
        go_on.set()
        await asyncio.gather(put, search)


async def test_an_expired_item_is_not_found_and_its_vectors_go_with_it(database_url, pool):
    ttl: TTLConfig = {"default_ttl": None, "refresh_on_read": True, "omit_expired": True}
    async with open_store(database_url, pool, ttl=ttl) as store:
        await store.aput(ADA, "old", {"text": "tea"}, ttl=5)
        await store.aput(ADA, "young", {"text": "tea"}, ttl=5)
        await rows(pool, "UPDATE store SET expires_at = now() + interval '9 seconds' RETURNING 1")
        await store.asearch(ADA, query="tea", refresh_ttl=False)
        left = "SELECT max(expires_at) < now() + interval '1 minute' FROM store"
        assert await rows(pool, left) == [(True,)]
        await store.asearch(ADA, query="tea")
        assert await rows(pool, left) == [(False,)]
        await rows(pool, "UPDATE store SET expires_at = now() WHERE key = 'old' RETURNING 1")
        assert keys(await store.asearch(ADA, query="tea")) == ["young"]
        sweeper = StoreSweeper(pool, interval_seconds=60, count=lambda count: None)
        assert await sweeper.sweep() == 1
        assert await rows(pool) == [("young", "text")]


async def test_a_batch_of_ones_own_is_embedded_too(store, pool):
    put = [PutOp(ADA, "a", {"text": "tea"}), PutOp(ADA, "b", {"text": "piano"})]
    assert await store.abatch(put) == [None, None]
    got, found, listed = await store.abatch(
        [GetOp(ADA, "a"), SearchOp(ADA, query="piano", limit=1), SearchOp(ADA)]
    )
    assert (got.key, keys(found), sorted(keys(listed))) == ("a", ["b"], ["a", "b"])


async def test_a_text_without_words_is_close_to_nothing(store):
    await store.aput(ADA, "empty", {"text": "..."})
    await store.aput(ADA, "tea", {"text": "tea"})
    assert keys(await store.asearch(ADA, query="tea")) == ["tea"]
    assert await store.asearch(ADA, query="?") == []


async def test_characters_of_namespaces_mean_nothing_else(store):
    for label in ("a%", "a_", "ab", "a", "a-b", "a/b", "ä"):
        await store.aput((label, "x"), "k", {"text": "tea"})
    await store.aput(("a",), "k", {"text": "tea"})
    for label, count in {"a%": 1, "a_": 1, "a": 2, "a-b": 1, "ä": 1, "": 0}.items():
        scope = (label,) if label else ("b",)
        found = await store.asearch(scope, query="tea", limit=20)
        assert {item.namespace[0] for item in found} <= {label}
        assert len(found) == count, label


async def test_what_is_too_much_is_refused_with_a_sentence(database_url, pool):
    async with open_store(database_url, pool, text_bytes=20, item_texts=3) as store:
        with pytest.raises(InvalidRequest, match="30 bytes long"):
            await store.aput(ADA, "k", {"text": "x" * 30})
        with pytest.raises(InvalidRequest, match="more than 3 texts"):
            await store.aput(ADA, "k", {"text": list("abcd")}, index=["text[*]"])
        with pytest.raises(InvalidRequest, match="at most 20 paths"):
            await store.aput(ADA, "k", {"text": "a"}, index=["{" + ",".join("a" * 30) + "}"])
        with pytest.raises(InvalidRequest, match="query"):
            await store.asearch(ADA, query="x" * 30)
        assert await store.aget(ADA, "k") is None


async def test_the_layout_is_langgraphs(database_url, second_database_url, pool, store):
    """Data moves between this store and LangGraph's as it is."""
    given: PostgresIndexConfig = {"dims": DIMS, "embed": embed, "fields": ["text"]}
    async with AsyncPostgresStore.from_conn_string(second_database_url, index=given) as upstream:
        await upstream.setup()
        await upstream.aput(ADA, "k", {"text": "green tea"})
    async with AsyncPostgresStore.from_conn_string(database_url, index=given) as upstream:
        await upstream.setup()  # finds all done
        await store.aput(ADA, "k", {"text": "green tea"})
        (theirs,) = await upstream.asearch(ADA, query="tea")
        (ours,) = await store.asearch(ADA, query="tea")
        assert (ours.key, ours.value, ours.score) == (theirs.key, theirs.value, theirs.score)
    async with (
        open_pool(second_database_url) as other,
        open_store(second_database_url, other) as own,
    ):
        (adopted,) = await own.asearch(ADA, query="tea")
        assert adopted.score == pytest.approx(ours.score)
    columns = (
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute"
        " WHERE attrelid = 'store_vectors'::regclass AND attnum > 0 ORDER BY attnum"
    )
    shape = (
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = 'store_vectors'::regclass AND contype <> 'n' ORDER BY 1"
    )
    indexes = "SELECT indexdef FROM pg_indexes WHERE tablename = 'store_vectors' ORDER BY 1"
    async with open_pool(second_database_url) as other:
        for query in (columns, shape, indexes):
            assert await rows(pool, query) == await rows(other, query)


async def test_it_works_in_a_schema_of_its_own(empty_database_url):
    upgraded = database_settings(empty_database_url, schema="own")
    await asyncio.to_thread(upgrade, upgraded)
    async with (
        open_pool(empty_database_url, schema="own") as pool,
        open_store(empty_database_url, pool, INDEX, schema="own") as store,
    ):
        await store.aput(ADA, "k", {"text": "tea"}, index=["text"])
        assert keys(await store.asearch(ADA, query="tea")) == ["k"]
        assert await rows(pool, "SELECT count(*) FROM own.store_vectors") == [(1,)]


@pytest.mark.parametrize("exact_items", [0, 1000])
async def test_a_search_stays_in_its_scope(database_url, pool, exact_items):
    async with open_store(database_url, pool, exact_items=exact_items) as store:
        views = [ScopedStore(store, scope) for scope in (None, "acme", "acme/ada", "ac_e")]
        for number, view in enumerate(views):
            await view.aput(("notes",), "k", {"text": f"tea {number}"})
        for number, view in enumerate(views):
            for prefix in ((), ("notes",)):
                (found,) = await view.asearch(prefix, query="tea")
                assert (found.namespace, found.value) == (("notes",), {"text": f"tea {number}"})
        with pytest.raises(InvalidNamespaceError):
            await store.asearch(("__headrace__", "acme"), query="tea")


async def test_the_items_and_searches_of_one_scope_leave_the_model_to_others(database_url, pool):
    go_on, calls = asyncio.Event(), []

    async def model(texts):
        calls.append(list(texts))
        await go_on.wait()
        return await aembed(texts)

    async with open_store(
        database_url, pool, model=model, share=0.5, calls=2, batch_texts=1
    ) as store:
        ada, bob = ScopedStore(store, "acme/ada"), ScopedStore(store, "acme/bob")
        # From here on there are several scopes.
        go_on.set()
        await asyncio.gather(*(one.aput(("n",), "known", {"text": "k"}) for one in (ada, bob)))
        go_on.clear()
        calls.clear()
        work: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(ada.aput(("n",), f"{n}", {"text": f"a {n}"})) for n in range(9)
        ]
        work += [asyncio.ensure_future(ada.asearch((), query=f"a {n}")) for n in range(9)]
        work.append(
            asyncio.ensure_future(
                ada.abatch([PutOp(("n",), f"{n}", {"text": "a more"}) for n in range(2)])
            )
        )
        await eventually(lambda: len(calls) == 1)
        work.append(asyncio.ensure_future(bob.aput(("n",), "b", {"text": "b"})))
        await eventually(lambda: len(calls) == 2)
        assert calls[1] == ["b"]
        go_on.set()
        await asyncio.gather(*work)
        assert keys(await bob.asearch((), query="b"))[0] == "b"


async def test_a_batch_of_which_one_item_fails_makes_no_more_vectors(database_url, pool):
    go_on, asked, ended = asyncio.Event(), [], []

    async def model(texts):
        asked.extend(texts)
        if "bad" in texts:
            raise ValueError("no")
        await go_on.wait()
        ended.extend(texts)
        return await aembed(texts)

    async with open_store(
        database_url, pool, model=model, calls=1, attempts=1, batch_texts=1
    ) as store:
        texts = ["bad", *(f"tea {n}" for n in range(6))]
        with pytest.raises(EmbeddingFailed):
            await store.abatch([PutOp(("n",), text, {"text": text}) for text in texts])
        go_on.set()
        await store.aput(("n",), "later", {"text": "later"})
    assert len(asked) <= 3
    assert "later" in ended


async def test_a_search_of_one_scope_does_not_wait_behind_all_of_another(
    database_url, pool, database
):
    """While another session holds the table, four searches wait for it, the others for those."""
    async with open_store(database_url, pool) as store:
        ada, bob = ScopedStore(store, "acme/ada"), ScopedStore(store, "acme/bob")
        for scope in (ada, bob):
            await scope.aput(("n",), "k", {"text": "tea"})
        ended: list[str] = []

        async def search(scope: ScopedStore, name: str) -> None:
            await scope.asearch((), query="tea")
            ended.append(name)

        with database.transaction():
            database.execute("LOCK TABLE store")
            searches = [asyncio.ensure_future(search(ada, "ada")) for _ in range(12)]
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            await eventually(lambda: database.execute(waiting).fetchone()[0] == 4)
            searches.append(asyncio.ensure_future(search(bob, "bob")))
            await asyncio.sleep(0.1)
        await asyncio.gather(*searches)
    assert ended.index("bob") < 8
