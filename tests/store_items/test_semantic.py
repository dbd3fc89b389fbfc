"""Searches by meaning through the SDK and in a node, against a server with an index."""

import random
from pathlib import Path

import httpx
import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.errors import UnprocessableEntityError

from headrace.db.migrate import prepare_index
from headrace.graphs.manifest import read_manifest
from headrace.ids import uuid7
from tests.support.database import database_settings
from tests.support.live import live_server
from tests.support.waiting import eventually
from tests.support.words import cosine, vector

pytestmark = pytest.mark.acceptance

CONFIG = Path(__file__).parent / "semantic" / "langgraph.json"


@pytest.fixture(scope="module")
def server(module_database, tmp_path_factory):
    store = read_manifest(CONFIG).store
    assert store is not None
    assert store.index is not None
    prepare_index(database_settings(module_database), store.index.as_index())
    folder = tmp_path_factory.mktemp("semantic")
    with live_server(folder, module_database, config=CONFIG) as opened:
        yield opened


@pytest.fixture
async def client(server):
    async with get_client(url=server.url) as opened:
        yield opened


@pytest.fixture
def root() -> str:
    """A namespace of the test's own."""
    return str(uuid7())


def rows(server, statement: str, *values: object) -> list[tuple]:
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        return connection.execute(statement.encode(), values).fetchall()


async def test_the_sdk_finds_by_meaning(client, root):
    rng = random.Random(3)
    words = [
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
    ]
    texts = {f"k{number}": " ".join(rng.choices(words, k=4)) for number in range(40)}
    for number, (key, text) in enumerate(texts.items()):
        await client.store.put_item([root, "a"], key, {"text": text, "even": number % 2 == 0})
    await client.store.put_item([root, "b"], "other", {"text": "tea cake"})
    found = (await client.store.search_items([root, "a"], query="tea cake", limit=7))["items"]
    best = sorted(cosine(vector("tea cake"), vector(text)) for text in texts.values())[::-1]
    assert [item["score"] for item in found] == pytest.approx(best[:7], abs=1e-6)
    assert all(item["value"]["text"] == texts[item["key"]] for item in found)
    even = await client.store.search_items([root, "a"], query="tea", filter={"even": True})
    assert len(even["items"]) == 10
    assert all(item["value"]["even"] for item in even["items"])
    (first,) = (await client.store.search_items([root], query="tea cake", limit=1))["items"]
    assert first["score"] == pytest.approx(1)
    plain = await client.store.search_items([root, "b"])
    assert [item["score"] for item in plain["items"]] == [None]


async def test_index_of_a_put_is_honoured(client, root):
    await client.store.put_item([root], "none", {"text": "tea"}, index=False)
    await client.store.put_item([root], "title", {"text": "tea", "title": "river"}, index=["title"])
    found = (await client.store.search_items([root], query="river"))["items"]
    assert [(item["key"], item["score"]) for item in found] == [("title", pytest.approx(1))]
    with pytest.raises(UnprocessableEntityError, match="at most 20 paths"):
        await client.store.put_item([root], "k", {}, index=[f"p{n}" for n in range(21)])
    with pytest.raises(UnprocessableEntityError, match="bytes long"):
        await client.store.put_item([root], "k", {"text": "x" * 40_000})
    assert await client.store.get_item([root], "k") is None
    await client.store.put_item([root], "k", {"text": "x" * 40_000}, index=False)


async def test_a_put_embeds_anew_and_a_deletion_forgets(client, root, server):
    await client.store.put_item([root], "k", {"text": "tea"})
    await client.store.put_item([root], "k", {"text": "piano"})
    (found,) = (await client.store.search_items([root], query="piano"))["items"]
    assert found["score"] == pytest.approx(1)
    vectors = "SELECT field_name FROM store_vectors WHERE prefix = %s"
    assert rows(server, vectors, root) == [("text",)]
    await client.store.delete_item([root], "k")
    assert rows(server, vectors, root) == []
    await client.store.put_item([root], "brief", {"text": "tea"}, ttl=1)
    rows(server, "UPDATE store SET expires_at = now() WHERE prefix = %s RETURNING 1", root)
    assert (await client.store.search_items([root], query="tea"))["items"] == []
    await eventually(lambda: rows(server, vectors, root) == [], seconds=20)


async def test_a_node_searches_by_meaning(client, root):
    notes = {"tea": "ada likes green tea", "bike": "the bike is red", "rain": "it rains today"}
    state = {"root": root, "notes": notes, "query": "green tea"}
    ended = await client.runs.wait(None, "recall", input=state)
    first, second = ended["found"]
    assert first == {
        "key": "tea",
        "score": pytest.approx(cosine(vector("green tea"), vector(notes["tea"])), abs=1e-6),
    }
    assert second["score"] < first["score"]
    over_http = (await client.store.search_items([root], query="green tea", limit=1))["items"]
    assert [item["key"] for item in over_http] == ["tea"]


async def test_it_is_measured(client, root, server):
    await client.store.put_item([root], "k", {"text": "tea"})
    await client.store.search_items([root], query="tea")

    def measured() -> bool:
        text = httpx.get(f"{server.url}/metrics").text
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return all(
            float(lines.get(name, 0)) > 0
            for name in (
                "headrace_embedding_seconds_count",
                'headrace_embedded_texts_total{kind="item"}',
                'headrace_embedded_texts_total{kind="query"}',
                'headrace_semantic_search_seconds_count{plan="narrow"}',
            )
        )

    await eventually(measured)
