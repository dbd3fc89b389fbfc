"""Store items through the SDK, and what graphs make of the same store."""

import httpx
import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.errors import BadRequestError, UnprocessableEntityError

from headrace.ids import uuid7
from tests.support.waiting import eventually

pytestmark = pytest.mark.acceptance


@pytest.fixture
async def client(forms_server):
    async with get_client(url=forms_server.url) as opened:
        yield opened


@pytest.fixture
def root() -> str:
    """A namespace of the test's own."""
    return str(uuid7())


def execute(server, statement: str, *values: object) -> list[tuple]:
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []


async def test_an_item_is_written_read_and_deleted(client, root):
    assert await client.store.put_item([root, "u1"], "k", {"a": 1}) is None
    item = await client.store.get_item([root, "u1"], "k")
    assert (item["namespace"], item["key"], item["value"]) == ([root, "u1"], "k", {"a": 1})
    assert item["created_at"].endswith("+00:00")
    await client.store.put_item([root, "u1"], "k", {"a": 2}, index=False)
    again = await client.store.get_item([root, "u1"], "k")
    assert again["value"] == {"a": 2}
    assert again["created_at"] == item["created_at"]
    assert again["updated_at"] > item["updated_at"]
    assert await client.store.delete_item([root, "u1"], "k") is None
    assert await client.store.get_item([root, "u1"], "k") is None
    assert await client.store.delete_item([root, "u1"], "k") is None


async def test_items_are_found_below_a_namespace(client, root):
    for number in range(3):
        await client.store.put_item(
            [root, "u1"], f"k{number}", {"n": str(number), "odd": number % 2}
        )
    await client.store.put_item([f"{root}x"], "other", {"odd": 1})

    async def keys(**given):
        found = await client.store.search_items([root], **given)
        return [item["key"] for item in found["items"]]

    assert await keys() == ["k2", "k1", "k0"]
    assert await keys(limit=1, offset=1) == ["k1"]
    assert await keys(filter={"odd": 1}) == ["k1"]
    assert await keys(filter={"n": {"$gte": "1"}, "odd": {"$ne": 1}}) == ["k2"]
    assert await keys(refresh_ttl=False) == ["k2", "k1", "k0"]
    everywhere = {"namespace_prefix": None, "filter": {"n": "1"}, "limit": 1000}
    answer = await client.http.client.post("/store/items/search", json=everywhere)
    assert [root, "u1"] in [item["namespace"] for item in answer.json()["items"]]
    (first,) = (await client.store.search_items([root, "u1"], limit=1))["items"]
    assert first["namespace"] == [root, "u1"]
    assert first["score"] is None


async def test_namespaces_are_listed(client, root):
    for path in (["a", "x"], ["a", "y"], ["b", "x", "deep"]):
        await client.store.put_item([root, *path], "k", {})

    async def found(**given):
        listed = await client.store.list_namespaces(prefix=[root], **given)
        return [labels[1:] for labels in listed["namespaces"]]

    assert await found() == [["a", "x"], ["a", "y"], ["b", "x", "deep"]]
    assert await found(max_depth=2) == [["a"], ["b"]]
    assert await found(suffix=["x"]) == [["a", "x"]]
    assert await found(limit=1, offset=1) == [["a", "y"]]
    listed = await client.store.list_namespaces(prefix=[root, "*", "x"])
    assert [labels[1:] for labels in listed["namespaces"]] == [["a", "x"], ["b", "x", "deep"]]


async def test_graphs_and_callers_share_one_store(client, root):
    await client.runs.wait(None, "memo", input={"topic": root})
    assert (await client.store.get_item(["topics"], root))["value"] == {"seen": True}


async def test_what_cannot_be_stored_is_refused_with_what_to_change(client, forms_server, root):
    put = client.store.put_item
    with pytest.raises(BadRequestError, match="Namespace cannot be empty"):
        await put([], "k", {})
    for namespace, key, value, said in (
        (["", root], "k", {}, "non-empty string without periods"),
        (["langgraph", root], "k", {}, "use another label"),
        ([root] * 21, "k", {}, "max_namespace_depth"),
        ([root], "k" * 2001, {}, "max_path_bytes"),
        ([root], "é" * 1000, {}, "max_path_bytes"),
        ([root], "", {}, "key"),
        ([root], "k", {"v": "x" * (4 * 1024 * 1024)}, "max_value_bytes"),
        ([root], "a\0b", {}, "NUL"),
    ):
        with pytest.raises(UnprocessableEntityError, match=said):
            await put(namespace, key, value)
    with pytest.raises(UnprocessableEntityError, match="max_path_bytes"):
        await client.store.list_namespaces(suffix=["x" * 2001])
    with pytest.raises(UnprocessableEntityError, match="ttl"):
        await put([root], "k", {}, ttl=-1)
    for wanted in ({"a": {"$like": "x"}}, {"a": {"b": 1}}):
        with pytest.raises(UnprocessableEntityError, match=r"not one of \$eq"):
            await client.store.search_items([root], filter=wanted)
    with pytest.raises(UnprocessableEntityError, match="NUL"):
        await client.store.get_item([root], "a\0b")
    await put([root, "u1"], "k", {})
    for namespace in ([root, "", "u1"], [root, "u1", ""], [""]):
        with pytest.raises(UnprocessableEntityError, match="non-empty string"):
            await client.store.get_item(namespace, "k")
    nowhere = httpx.get(f"{forms_server.url}/store/items", params={"key": "k"})
    assert nowhere.status_code == 400
    await client.store.delete_item([root, "u1"], "k")
    # The SDK keeps labels with periods to itself.
    refused = httpx.put(
        f"{forms_server.url}/store/items", json={"namespace": ["a.b"], "key": "k", "value": {}}
    )
    assert refused.status_code == 422
    assert refused.json()["detail"] == (
        "Namespace label 'a.b' must be a non-empty string without periods"
    )
    assert await client.store.search_items([root]) == {"items": []}


async def test_the_longest_path_that_is_taken_can_be_stored(client, forms_server):
    random = "".join(str(uuid7()) for _ in range(80))
    await client.store.put_item([random[:1000]], random[: 2000 - 1000], {})
    assert await client.store.get_item([random[:1000]], random[: 2000 - 1000])


async def test_an_items_time_runs_out(client, forms_server, root):
    """Minutes pass by a change of the row; the sweep comes every other second."""
    for key, ttl in (("default", None), ("short", 5), ("half", 0.5)):
        await client.store.put_item([root], key, {}, ttl=ttl)
    url = f"{forms_server.url}/store/items"
    body: dict[str, object] = {"namespace": [root], "key": "stays", "value": {}, "ttl": None}
    assert httpx.put(url, json=body).status_code == 204
    # Reading starts the time anew.
    assert await client.store.get_item([root], "half")

    def minutes() -> dict[str, tuple[int | None, int | None]]:
        """What each is given, and has left."""
        rows = execute(
            forms_server,
            "SELECT key, ttl_minutes, ceil(extract(epoch FROM expires_at - now()) / 60)::int"
            " FROM store WHERE prefix = %s",
            root,
        )
        return {key: (given, left) for key, given, left in rows}

    kept = {"default": (60, 60), "stays": (None, None)}
    assert minutes() == kept | {"short": (5, 5), "half": (1, 1)}
    execute(
        forms_server,
        "UPDATE store SET expires_at = now() WHERE prefix = %s AND key = ANY(%s)",
        root,
        ["short", "half"],
    )
    assert await client.store.get_item([root], "short") is None
    found = await client.store.search_items([root])
    assert {item["key"] for item in found["items"]} == {"default", "stays"}

    def swept() -> bool:
        return minutes() == kept

    await eventually(swept)
    text = forms_server.get("/metrics").text
    assert "headrace_store_items_expired_total" in text
