"""A value that JSON or Postgres has no form for: every way in which a client may meet it."""

import asyncio
import json
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from headrace.json_text import json_text
from tests.support.graphs.odd import VALUES
from tests.values.calls import events, get, new_thread, run_of, wait

CASES = sorted(VALUES)


def shown(case: str) -> Any:
    return json.loads(json_text(VALUES[case]))


@pytest.mark.parametrize("case", CASES)
async def test_every_answer_shows_the_same(client, case):
    thread_id, given = await new_thread(client), {"input": {"case": case}}
    expected = {"case": case, "value": shown(case)}
    assert await wait(client, thread_id, "left", **given) == expected
    told = await events(client, thread_id, "left", stream_mode=["updates", "values"], **given)
    assert ("updates", {"leave": {"value": expected["value"]}}) in told
    assert told[-1] == ("values", expected)
    path = f"/threads/{thread_id}"
    assert await get(client, f"{path}/runs/{await run_of(client, thread_id)}/join") == expected
    thread = await get(client, path)
    assert (thread["status"], thread["values"]) == ("idle", expected)
    assert (await get(client, f"{path}/state"))["values"] == expected
    assert (await get(client, f"{path}/history"))[0]["values"] == expected
    found = await client.post("/threads/search", json={"ids": [thread_id]})
    assert [one["values"] for one in found.json()] == [expected]
    filtered = {"ids": [thread_id], "values": {"case": case}, "extract": {"it": "values.value"}}
    found = await client.post("/threads/search", json=filtered)
    assert [one["extracted"] for one in found.json()] == [{"it": expected["value"]}]


@pytest.mark.parametrize("case", CASES)
async def test_whether_somebody_watches_makes_no_difference(client, case):
    thread_id = await new_thread(client)
    body = {"assistant_id": "left", "input": {"case": case}}
    run = (await client.post(f"/threads/{thread_id}/runs", json=body)).json()
    await get(client, f"/threads/{thread_id}/runs/{run['run_id']}/join")
    unwatched = await get(client, f"/threads/{thread_id}/runs/{run['run_id']}")
    assert unwatched["status"] == "success"
    everything = ["values", "updates", "debug", "tasks", "checkpoints", "messages", "events"]
    await events(client, thread_id, "left", input={"case": case}, stream_mode=everything)
    watched = await get(client, f"/threads/{thread_id}/runs/{await run_of(client, thread_id)}")
    assert watched["status"] == "success"


async def test_a_custom_event_may_hold_anything(client):
    thread_id = await new_thread(client)
    given = {"input": {"case": "tuple_key"}, "stream_mode": ["custom"]}
    assert await events(client, thread_id, "told", **given) == [
        ("custom", {"told": "<Untold>", "(1, 2)": {"(1, 2)": "x"}})
    ]


@pytest.mark.parametrize("case", [case for case in CASES if case != "deep"])
async def test_so_may_an_interrupt(client, case):
    thread_id = await new_thread(client)
    asked = {"question": shown(case)}
    answer = await wait(client, thread_id, "asked", input={"case": case})
    assert [one["value"] for one in answer["__interrupt__"]] == [asked]
    thread = await get(client, f"/threads/{thread_id}")
    assert [one[0]["value"] for one in thread["interrupts"].values()] == [asked]
    state = await get(client, f"/threads/{thread_id}/state")
    assert state["interrupts"][0]["value"] == asked


@pytest.mark.parametrize("case", [case for case in CASES if case != "deep"])
async def test_and_an_item_of_the_store(client, case):
    thread_id = await new_thread(client)
    await wait(client, thread_id, "kept", input={"case": case})
    item = await get(client, f"/store/items?namespace=odd&key={case}")
    assert item["value"] == {"value": shown(case)}
    found = await client.post("/store/items/search", json={"namespace_prefix": ["odd"]})
    assert {**item, "score": None} in found.json()["items"]


NUMBERS = [2**70, -(2**63) - 1, 2**64, 1e20, 0.1, 2**63 - 1]


@pytest.mark.parametrize("number", NUMBERS, ids=str)
async def test_numbers_of_clients_come_back_as_they_are(client, number):
    """From a body through metadata, input, state and the store."""
    thread_id = await new_thread(client, metadata={"n": number})
    answer = await wait(client, thread_id, "asked", input={"case": "big", "value": [number]})
    assert answer["value"] == [number]
    again = await wait(client, thread_id, "asked", command={"resume": {"n": number}})
    assert again["value"] == {"n": number}
    thread = await get(client, f"/threads/{thread_id}")
    assert thread["metadata"]["n"] == number
    assert thread["values"]["value"] == {"n": number}
    item = {"namespace": ["numbers"], "key": str(number), "value": {"n": number}}
    assert (await client.put("/store/items", json=item)).status_code == 204
    stored = await get(client, f"/store/items?namespace=numbers&key={quote(str(number))}")
    assert stored["value"] == {"n": number}


async def damage(database_url: str, thread_id: str, kind: str, blob: bytes) -> None:
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        await connection.execute(
            "UPDATE checkpoint_blobs SET type = %s, blob = %s"
            " WHERE thread_id = %s AND channel = 'value'",
            (kind, blob, thread_id),
        )


@pytest.mark.parametrize(
    ("kind", "blob"),
    [("msgpack", b"\xc1\xff"), ("pickle", b"x"), ("json", b"{"), ("of a later release", b"")],
)
async def test_a_damaged_value_is_one_threads_trouble(client, values_database, kind, blob):
    good, bad = [await new_thread(client) for _ in range(2)]
    for thread_id in (good, bad):
        await wait(client, thread_id, "left", input={"case": "tuple_key"})
    await damage(values_database, bad, kind, blob)

    found = await client.post("/threads/search", json={"ids": [good, bad]})
    assert found.status_code == 200
    values = {one["thread_id"]: one["values"] for one in found.json()}
    assert values[good]["value"] == {"(1, 2)": "x"}
    assert values[bad]["case"] == "tuple_key"
    assert values[bad]["value"].startswith(f"... (unreadable: {len(blob)} bytes of {kind}, ")
    thread, state, *_ = await asyncio.gather(
        get(client, f"/threads/{bad}"),
        get(client, f"/threads/{bad}/state"),
        get(client, f"/threads/{good}"),
        get(client, f"/threads/{bad}/history"),
        get(client, f"/threads/{bad}/runs/{await run_of(client, bad)}/join"),
    )
    assert thread["values"] == state["values"] == values[bad]


async def test_a_damaged_checkpoint_is_one_threads_trouble(client, values_database):
    good, bad = [await new_thread(client) for _ in range(2)]
    for thread_id in (good, bad):
        await wait(client, thread_id, "left", input={"case": "tuple_key"})
    async with await psycopg.AsyncConnection.connect(values_database) as connection:
        await connection.execute(
            "UPDATE checkpoints SET checkpoint = '5' WHERE thread_id = %s", (bad,)
        )
    found = await client.post("/threads/search", json={"ids": [good, bad]})
    values = {one["thread_id"]: one["values"] for one in found.json()}
    assert values[good]["value"] == {"(1, 2)": "x"}
    assert values[bad] is None


@pytest.mark.parametrize(
    "path",
    ["/assistants/%00", "/threads/%00", "/store/items?namespace=a&key=%00", "/runs/%00/join"],
)
async def test_no_caller_sees_the_words_of_a_driver(client, path):
    answer = await client.get(path)
    assert 400 <= answer.status_code < 500
    detail = answer.json()["detail"].lower()
    assert not any(word in detail for word in ("postgresql", "0x00", "select", "$1", "psycopg"))
