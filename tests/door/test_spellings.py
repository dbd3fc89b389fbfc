"""One UUID is one thing, in whichever spelling: capitals, braces, urn:uuid:, no dashes."""

from collections.abc import Callable
from urllib.parse import quote
from uuid import uuid4

import psycopg
import pytest

from tests.support.door import Door

pytestmark = pytest.mark.asyncio(loop_scope="module")

SPELLINGS: dict[str, Callable[[str], str]] = {
    "capitals": str.upper,
    "braces": lambda value: "{" + value + "}",
    "urn": lambda value: f"urn:uuid:{value}",
    "without dashes": lambda value: value.replace("-", ""),
}
spelled = pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)


@spelled
async def test_every_route_of_a_thread_takes_every_spelling(door: Door, spell):
    thread_id = await door.thread()
    path = f"/threads/{quote(spell(thread_id))}"
    body = {"assistant_id": "none", "input": {}, "if_not_exists": "create"}

    ran = await door.post(f"{path}/runs/wait", body)
    assert ran.json()["log"] == ["tell"]
    assert ran.headers["location"].startswith(f"/threads/{thread_id}/runs/")
    streamed = await door.post(f"{path}/runs/stream", body)
    assert streamed.headers["content-location"].startswith(f"/threads/{thread_id}/runs/")
    made = (await door.post(f"{path}/runs", body)).json()
    assert made["thread_id"] == thread_id
    run = f"{path}/runs/{quote(spell(made['run_id']))}"
    assert (await door.http.get(f"{run}/join")).json()["log"] == ["tell"] * 3
    assert (await door.http.get(run)).json()["run_id"] == made["run_id"]

    state = (await door.http.get(f"{path}/state")).json()
    assert state["values"]["log"] == ["tell"] * 3
    at = quote(spell(state["checkpoint_id"]))
    assert (await door.http.get(f"{path}/state/{at}")).json()["values"] == state["values"]
    named = {"checkpoint_id": spell(state["checkpoint_id"]), "thread_id": spell(thread_id)}
    found = await door.post(f"{path}/state/checkpoint", {"checkpoint": named})
    assert found.json()["values"] == state["values"]
    changed = await door.post(f"{path}/state", {"values": {"log": ["set"]}, "checkpoint": named})
    assert changed.status_code == 200, changed.text
    assert len((await door.post(f"{path}/history", {"limit": 100})).json()) == 10
    assert (await door.http.get(f"{path}/storage")).json()["thread_id"] == thread_id
    assert (await door.http.patch(path, json={"metadata": {"a": 1}})).json()["metadata"]["a"] == 1
    assert (await door.post(f"{path}/copy")).status_code == 200
    assert len((await door.http.get(f"{path}/runs")).json()) == 3
    assert (await door.http.delete(path)).status_code == 204
    assert (await door.http.get(f"/threads/{thread_id}")).status_code == 404


@spelled
async def test_every_body_takes_every_spelling(door: Door, spell):
    thread_id = await door.thread()
    taken = await door.post("/threads", {"thread_id": spell(thread_id)})
    assert taken.status_code == 409
    for path in ("/threads/search", "/threads/count"):
        found = (await door.post(path, {"ids": [spell(thread_id)]})).json()
        assert found == 1 or found[0]["thread_id"] == thread_id
    cancelled = await door.post(
        "/runs/cancel", {"thread_id": spell(thread_id), "run_ids": [spell(str(uuid4()))]}
    )
    assert cancelled.status_code == 404
    assistant = (await door.post("/assistants", {"graph_id": "none"})).json()["assistant_id"]
    ran = await door.wait(thread_id, spell(assistant), input={})
    assert ran.json()["log"] == ["tell"]
    assert (await door.http.get(f"/assistants/{quote(spell(assistant))}")).status_code == 200
    again = await door.post("/assistants", {"graph_id": "none", "assistant_id": spell(assistant)})
    assert again.status_code == 409
    pruned = await door.post("/threads/prune", {"thread_ids": [spell(thread_id), thread_id]})
    assert pruned.json() == {"pruned_count": 1}


@spelled
async def test_no_second_thread_of_one_uuid_is_made(door: Door, spell):
    thread_id = str(uuid4())
    for given in (spell(thread_id), thread_id):
        ran = await door.post(
            f"/threads/{quote(given)}/runs/wait",
            {"assistant_id": "none", "input": {}, "if_not_exists": "create"},
        )
        assert ran.headers["location"].startswith(f"/threads/{thread_id}/runs/")
    assert ran.json()["log"] == ["tell", "tell"]


@spelled
async def test_a_retry_in_another_spelling_is_the_same_request(door: Door, spell):
    thread_id = await door.thread()
    key = {"idempotency-key": str(uuid4())}
    body = {"assistant_id": "none", "input": {}}
    first, second = [
        await door.post(f"/threads/{quote(given)}/runs/wait", body, **key)
        for given in (thread_id, spell(thread_id))
    ]
    assert first.headers["location"] == second.headers["location"]
    assert len(await door.runs(thread_id)) == 1


async def test_a_thread_that_was_adopted_in_capitals_stays_reachable(
    door: Door, module_database: str
):
    adopted = str(uuid4()).upper()
    with psycopg.connect(module_database, autocommit=True) as database:
        database.execute(
            "INSERT INTO threads (thread_id, tenant, owner) VALUES (%s, 'default', 'anonymous')",
            (adopted,),
        )
    assert (await door.get(adopted))["thread_id"] == adopted
    ran = await door.wait(adopted, "none", input={}, if_not_exists="create")
    assert ran.headers["location"].startswith(f"/threads/{adopted}/runs/")
    found = (await door.post("/threads/search", {"ids": [adopted]})).json()
    assert [thread["thread_id"] for thread in found] == [adopted]


@pytest.mark.parametrize(
    "given",
    ["{0192f6a8-7c1e-7e00-8000-5f0e3a1c9b77", "0192f6a8-7c1e7e00-8000-5f0e3a1c9b77", "0" * 31, "x"],
)
async def test_what_is_no_uuid_is_refused(door: Door, given):
    refused = await door.http.get(f"/threads/{quote(given)}")
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    refused = await door.post("/threads", {"thread_id": given})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
