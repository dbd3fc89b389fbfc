"""Crons over HTTP: what is kept, what is shown, and what is refused with a sentence."""

from typing import Any
from uuid import uuid4

import pytest

from tests.support.apps import GRAPHS, app_client, settings_for

INPUT = {"messages": [{"role": "user", "content": "hi"}]}
DAILY: dict[str, Any] = {"assistant_id": "agent", "schedule": "0 5 * * *", "input": INPUT}


@pytest.fixture
async def client(database_url):
    async with app_client(settings_for(database_url, GRAPHS / "langgraph.json")) as opened:
        yield opened


async def made(client, path="/runs/crons", **body) -> dict[str, Any]:
    answer = await client.post(path, json={**DAILY, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


async def test_a_cron_is_kept_as_it_was_sent(client):
    cron = await made(client, timezone="Europe/Berlin", metadata={"a": 1}, stream_mode="updates")
    assert set(cron) == {
        *("cron_id", "assistant_id", "thread_id", "user_id", "end_time", "schedule", "timezone"),
        *("payload", "next_run_date", "metadata", "on_run_completed", "enabled", "created_at"),
        "updated_at",
    }
    assert (cron["thread_id"], cron["on_run_completed"], cron["enabled"]) == (None, "delete", True)
    assert cron["next_run_date"].endswith(("T03:00:00+00:00", "T04:00:00+00:00"))
    assert cron["payload"] == {
        "assistant_id": cron["assistant_id"],
        "schedule": "0 5 * * *",
        "timezone": "Europe/Berlin",
        "input": INPUT,
        "metadata": {"a": 1},
        "stream_mode": ["updates"],
        "config": {"configurable": {"cron_id": cron["cron_id"]}},
    }
    path = f"/runs/crons/{cron['cron_id']}"
    assert (await client.get(path)).json() == cron
    assert (await client.delete(path)).status_code == 204
    for gone in (
        await client.delete(path),
        await client.get(path),
        await client.patch(path, json={}),
    ):
        assert (gone.status_code, gone.json()["code"]) == (404, "cron_not_found")


async def test_a_cron_of_a_thread_needs_the_thread_and_leaves_it(client):
    thread_id = (await client.post("/threads", json={})).json()["thread_id"]
    path = f"/threads/{thread_id.upper()}/runs/crons"
    cron = await made(client, path, on_run_completed="keep")
    assert (cron["thread_id"], cron["on_run_completed"]) == (thread_id, None)
    foreign = await client.post(f"/threads/{uuid4()}/runs/crons", json=DAILY)
    assert (foreign.status_code, foreign.json()["code"]) == (404, "thread_not_found")
    refused = await client.post(path, json={**DAILY, "on_run_completed": "delete"})
    assert refused.status_code == 422
    assert "this cron's thread stays" in refused.json()["detail"]
    await client.delete(f"/threads/{thread_id}")
    assert (await client.get(f"/runs/crons/{cron['cron_id']}")).status_code == 404


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"schedule": "bad"}, 422, "Invalid cron schedule: 'bad'"),
    ({"schedule": "* * * * * *"}, 422, "crons.min_interval_seconds"),
    ({"schedule": "0 0 31 2 *"}, 422, "Bad day-of-month"),
    ({"schedule": "* * */20 * 1L"}, 422, "No time of the next fifty years"),
    ({"timezone": "Mars/Base"}, 422, "IANA"),
    ({"timezone": "localtime"}, 422, "IANA"),
    ({"timezone": "right/Europe/Berlin"}, 422, "IANA"),
    ({"end_time": "2020-01-01T00:00:00Z"}, 422, "no slot between now and then"),
    ({"end_time": "soon"}, 422, "end_time"),
    ({"end_time": "9999-12-31T23:59:59-12:00"}, 422, "end_time"),
    ({"assistant_id": str(uuid4())}, 404, "not found"),
    ({"assistant_id": "nobody"}, 422, "Must be an assistant's UUID"),
    ({"on_run_completed": "forget"}, 422, "on_run_completed"),
    ({"after_seconds": 5}, 422, "after_seconds: the schedule says"),
    ({"checkpoint_id": str(uuid4())}, 422, "latest checkpoint"),
    ({"if_not_exists": "create"}, 422, "without one each run gets a new thread"),
    ({"on_completion": "keep"}, 422, "on_run_completed"),
    ({"on_disconnect": "cancel"}, 422, "no client follows"),
    ({"command": {"resume": "yes"}}, 422, "answers no interrupt"),
    ({"thread_id": str(uuid4())}, 422, "thread_id"),
    ({"config": {"configurable": {"checkpoint_id": str(uuid4())}}}, 422, "checkpoint"),
    ({"config": {"configurable": {"a": 1}}, "context": {"b": 1}}, 400, "Cannot specify both"),
    ({"interrupt_before": ["nobody"]}, 422, "nobody"),
    ({"feedback_keys": ["a"]}, 422, "feedback_keys"),
    ({"input": {"text": "x" * 300_000}}, 422, "crons.max_payload_bytes"),
    ({"metadata": {"text": "x" * 300_000}}, 422, "metadata"),
    ({"enabled": "perhaps"}, 422, "enabled"),
]


async def test_what_no_run_can_be_made_of_is_refused(client):
    for body, status, says in REFUSED:
        answer = await client.post("/runs/crons", json={**DAILY, **body})
        assert answer.status_code == status, answer.text
        assert says in answer.json()["detail"]
    assert (await client.post("/runs/crons/count")).json() == 0


async def test_a_change_keeps_what_it_does_not_name(client):
    cron = await made(
        client, timezone="Europe/Berlin", end_time="2999-01-01T00:00:00", metadata={"a": 1}
    )
    assert cron["end_time"] == "2999-01-01T00:00:00+00:00", "without an offset it is UTC"
    path = f"/runs/crons/{cron['cron_id']}"

    async def changed(**patch: Any) -> dict[str, Any]:
        answer = await client.patch(path, json=patch)
        assert answer.status_code == 200, answer.text
        return answer.json()  # type: ignore[no-any-return]

    off = await changed(enabled=False)
    assert {name for name in cron if cron[name] != off[name]} == {
        "enabled",
        "updated_at",
        "payload",
    }
    on = await changed(enabled=True, schedule="0 0 * * *", timezone="UTC")
    assert on["next_run_date"].endswith("T00:00:00+00:00")
    assert on["payload"]["input"] == INPUT
    assert (await changed(input=None))["payload"]["input"] is None
    merged = {**cron["metadata"], "b": {"c": 1}}
    assert (await changed(end_time=None, metadata={"b": {"c": 1}}))["metadata"] == merged
    now = (await client.get(path)).json()
    assert (now["end_time"], now["payload"]["metadata"]) == (None, merged)
    assert (await changed(metadata={"b": {"d": 2}}))["metadata"] == {**merged, "b": {"d": 2}}
    assert (await changed(metadata=None))["metadata"] == {}
    assert (await changed(timezone="", end_time=""))["timezone"] is None
    assert (await changed(timezone=None))["timezone"] is None
    assert (await changed(on_run_completed="keep"))["on_run_completed"] == "keep"
    assert (await changed(end_time="2999-01-01T00:00:00Z"))["next_run_date"] is not None


REFUSED_CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"schedule": "bad"}, "Invalid cron schedule"),
    ({"interrupt_after": ["nobody"]}, "nobody"),
    ({"durability": "sync"}, "contradict"),
    ({"thread_id": str(uuid4())}, "thread_id"),
    ({"after_seconds": 3}, "after_seconds"),
    # As at creation: a cron that is enabled has a next slot.
    ({"end_time": "2020-01-01T00:00:00Z"}, "end_time: the schedule has no slot"),
    ({"schedule": "0 0 1 1 *", "end_time": "2020-01-01T00:00:00Z"}, "end_time: the schedule"),
]


async def test_a_change_is_checked_with_what_stays(client):
    cron = await made(client, checkpoint_during=False)
    path = f"/runs/crons/{cron['cron_id']}"
    for patch, says in REFUSED_CHANGES:
        answer = await client.patch(path, json=patch)
        assert answer.status_code == 422, answer.text
        assert says in answer.json()["detail"]
    assert (await client.get(path)).json() == cron


@pytest.mark.parametrize("name", ["enabled", "schedule", "assistant_id"])
@pytest.mark.parametrize("nothing", [None, ""])
async def test_what_no_cron_can_lack_stays_if_it_is_null_or_empty(client, name, nothing):
    cron = await made(client, enabled=False)
    answer = await client.patch(f"/runs/crons/{cron['cron_id']}", json={name: nothing})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {**cron, "updated_at": answer.json()["updated_at"]}


async def test_a_cron_is_enabled_if_nothing_is_asked_for(client):
    cron = await made(client, enabled=None)
    assert (cron["enabled"], "enabled" in cron["payload"]) == (True, False)


async def test_a_cron_without_a_slot_can_be_disabled_and_needs_one_to_be_enabled(client):
    path = f"/runs/crons/{(await made(client))['cron_id']}"
    for patch in (
        {"enabled": False, "end_time": "2020-01-01T00:00:00Z"},
        {"end_time": "2021-01-01T00:00:00Z"},
        {"schedule": "0 6 * * *"},
    ):
        answer = await client.patch(path, json=patch)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["enabled"], answer.json()["next_run_date"]) == (False, None)
    refused = await client.patch(path, json={"enabled": True})
    assert (refused.status_code, "no slot" in refused.json()["detail"]) == (422, True)
    again = await client.patch(path, json={"enabled": True, "end_time": None})
    assert "T06:00:00" in again.json()["next_run_date"]


async def test_why_a_cron_is_disabled_can_be_selected(client, database):
    ids = [(await made(client))["cron_id"] for _ in range(2)]
    database.execute(
        "UPDATE crons SET enabled = false, disabled_reason = 'gone', look_at = NULL"
        " WHERE cron_id = %s",
        (ids[0],),
    )
    query = {"select": ["disabled_reason", "enabled"], "sort_order": "asc"}
    answer = await client.post("/runs/crons/search", json=query)
    assert answer.json() == [{"disabled_reason": "gone", "enabled": False}, {"enabled": True}]


async def test_the_query_may_name_the_deadline_of_its_runs(client):
    thread_id = (await client.post("/threads", json={})).json()["thread_id"]
    query = {"deadline_seconds": 5}
    for path in ("/runs/crons", f"/threads/{thread_id}/runs/crons"):
        for body in ({}, {"deadline_seconds": 5}, {"deadline_seconds": None}):
            answer = await client.post(path, params=query, json={**DAILY, **body})
            assert answer.json()["payload"]["deadline_seconds"] == 5
        refused = await client.post(path, params=query, json={**DAILY, "deadline_seconds": 6})
        assert (refused.status_code, "body and query differ" in refused.text) == (422, True)
        for value in (0, "soon", 10**6):
            refused = await client.post(path, params={"deadline_seconds": value}, json=DAILY)
            assert (refused.status_code, "deadline_seconds" in refused.text) == (422, True)
    path = f"/runs/crons/{answer.json()['cron_id']}"
    changed = await client.patch(path, params={"deadline_seconds": 7}, json={"metadata": {"a": 1}})
    assert changed.json()["payload"]["deadline_seconds"] == 7
    refused = await client.patch(path, params=query, json={"deadline_seconds": 6})
    assert (refused.status_code, "body and query differ" in refused.text) == (422, True)
    kept = await client.patch(path, json={"metadata": {"a": 2}})
    assert kept.json()["payload"]["deadline_seconds"] == 7


async def test_crons_are_found_in_pages(client):
    thread_id = (await client.post("/threads", json={})).json()["thread_id"]
    crons = [await made(client, metadata={"n": n}, enabled=n != 2) for n in range(4)]
    crons.append(await made(client, f"/threads/{thread_id}/runs/crons", schedule="0 4 * * *"))
    ids = [cron["cron_id"] for cron in crons]

    async def found(**query: Any) -> list[str]:
        return [
            one["cron_id"] for one in (await client.post("/runs/crons/search", json=query)).json()
        ]

    assert await found() == ids[::-1]
    assert await found(sort_by="created_at", sort_order="asc") == ids
    assert await found(sort_by="cron_id", sort_order="desc") == ids[::-1]
    assert await found(thread_id=thread_id.upper()) == ids[4:]
    assert await found(metadata={"n": 3}) == [ids[3]]
    assert await found(enabled=False) == [ids[2]]
    assert await found(assistant_id="agent", limit=1, offset=4) == [ids[0]]
    assert await found(assistant_id=str(uuid4())) == []
    assert await found(assistant_id="", thread_id="") == ids[::-1]
    page = await client.post("/runs/crons/search", json={"limit": 2, "offset": 1})
    assert (page.headers["x-pagination-total"], page.headers["x-pagination-next"]) == ("4", "3")
    last = await client.post("/runs/crons/search", json={"limit": 2, "offset": 3})
    assert last.headers["x-pagination-total"] == "5"
    assert "x-pagination-next" not in last.headers
    chosen = await client.post(
        "/runs/crons/search", json={"select": ["cron_id", "now", "metadata"], "limit": 1}
    )
    assert set(chosen.json()[0]) == {"cron_id", "now", "metadata"}
    assert (await client.post("/runs/crons/count", json={"metadata": {"n": 1}})).json() == 1
    assert (await client.post("/runs/crons/count", json={"thread_id": thread_id})).json() == 1
    for path, query in (("search", {"limit": 0}), ("search", {"select": ["x"]})):
        assert (await client.post(f"/runs/crons/{path}", json=query)).status_code == 422


async def test_an_owner_has_so_many_crons_at_most(database_url):
    settings = settings_for(database_url, GRAPHS / "langgraph.json", crons={"max_per_owner": 1})
    async with app_client(settings) as client:
        first = await made(client)
        refused = await client.post("/runs/crons", json=DAILY)
        assert (refused.status_code, refused.json()["code"]) == (409, "too_many_crons")
        await client.delete(f"/runs/crons/{first['cron_id']}")
        await made(client)


async def test_a_request_that_is_sent_twice_makes_one_cron(client):
    key = {"Idempotency-Key": "one"}
    answers = [await client.post("/runs/crons", json=DAILY, headers=key) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    other = await client.post("/runs/crons", json={**DAILY, "schedule": "1 1 1 1 *"}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert (await client.post("/runs/crons/count")).json() == 1


async def test_an_id_that_is_no_uuid_is_refused(client):
    answer = await client.get("/runs/crons/search")
    assert (answer.status_code, answer.json()["detail"]) == (422, "Invalid cron ID: must be a UUID")
