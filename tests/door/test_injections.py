"""Words of SQL, of LIKE and of JSON paths in what callers send are words: they match themselves."""

import pytest

from tests.support.door import Door

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORDS = (
    "'; DROP TABLE threads; --",
    "' OR '1'='1",
    '" OR 1=1 --',
    "$1",
    "%s",
    "%(tenant)s",
    ":tenant",
    "{0}",
    "\\",
    "\\'; SELECT pg_sleep(5); --",
    "a' || pg_sleep(5) || '",
    "%",
    "_",
    "/%",
    "$.*",
    "a\nb",
    "\N{FULLWIDTH APOSTROPHE} OR 1=1",
)


async def ask(door: Door, path: str, body: object) -> object:
    answer = await door.post(path, body)
    assert answer.status_code == 200, (path, body, answer.text)
    return answer.json()


@pytest.mark.parametrize("word", WORDS)
async def test_a_word_finds_itself_and_nothing_else(door: Door, word: str):
    made = await ask(door, "/threads", {"metadata": {"word": word, word: 1}})
    await door.post("/threads", {"metadata": {"word": "another"}})
    for metadata in ({"word": word}, {word: 1}):
        found = await ask(door, "/threads/search", {"metadata": metadata, "select": ["thread_id"]})
        assert found == [{"thread_id": made["thread_id"]}]  # type: ignore[index]
        assert await ask(door, "/threads/count", {"metadata": metadata}) == 1
    assert await ask(door, "/threads/count", {"values": {word: word}}) == 0
    extracted = await door.post("/threads/search", {"extract": {"x": f"values.{word}"}, "limit": 1})
    assert extracted.status_code in (200, 422)

    assistant = {"graph_id": "none", "name": f"named {word}", "metadata": {"of": word}}
    await ask(door, "/assistants", assistant)
    await ask(door, "/assistants", {"graph_id": "none", "name": "of another name"})
    named = await ask(door, "/assistants/search", {"name": word, "limit": 100})
    names = [one["name"] for one in named]  # type: ignore[attr-defined]
    assert f"named {word}" in names
    assert all(word in name for name in names)
    assert await ask(door, "/assistants/count", {"name": word}) == len(names)
    assert await ask(door, "/assistants/count", {"metadata": {"of": word}}) == 1
    for key in ("sort_by", "sort_order", "status"):
        for path in ("/threads/search", "/assistants/search"):
            if (path, key) != ("/assistants/search", "status"):
                assert (await door.post(path, {key: word})).status_code == 422


@pytest.mark.parametrize("word", [word for word in WORDS if "." not in word])
async def test_so_it_is_in_the_store(door: Door, word: str):
    for namespace in ([word, "in"], ["elsewhere"], ["x" + word]):
        body = {"namespace": namespace, "key": word, "value": {"word": word, "of": namespace}}
        answer = await door.http.put("/store/items", json=body)
        assert answer.status_code == 204, answer.text
    found = await ask(door, "/store/items/search", {"namespace_prefix": [word]})
    assert [one["namespace"] for one in found["items"]] == [[word, "in"]]  # type: ignore[index]
    found = await ask(
        door,
        "/store/items/search",
        {"namespace_prefix": [word], "filter": {"word": word, "of": [word, "in"]}},
    )
    assert len(found["items"]) == 1  # type: ignore[index]
    none = {"namespace_prefix": [word], "filter": {word: {"$eq": word}}}
    assert await ask(door, "/store/items/search", none) == {"items": []}
    listed = await ask(door, "/store/namespaces", {"prefix": [word]})
    assert listed == {"namespaces": [[word, "in"]]}
    listed = await ask(door, "/store/namespaces", {"suffix": ["x" + word]})
    assert listed == {"namespaces": [["x" + word]]}


async def test_the_tables_are_all_there(door: Door):
    assert await door.threads() >= len(WORDS)
