"""Checkpoints that no thread has: who may make a thread of their id."""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from headrace.auth.principal import ANONYMOUS, Principal
from headrace.errors import ThreadNotFound
from headrace.ids import conversation_uuid, thread_id_for
from headrace.queue.queue import Queue
from headrace.queue.scope_check import takes_strays
from tests.support.apps import app_client, settings_for
from tests.support.database import open_pool
from tests.support.doors import GRAPHS
from tests.support.engine import open_writer
from tests.support.runs import register_process, run_request
from tests.support.stored_keys import store_key
from tests.support.waiting import eventually

CANARY = "canary-of-nobody"
SAID = {"messages": [{"role": "user", "content": CANARY}]}
MORE = {"messages": [{"role": "user", "content": "more"}]}
#: Another caller of the tenant, one that sees all of it, and one that sees all of the default
#: tenant, as users of handlers do.
CALLERS = {
    "bob": ("acme", "bob", ("read", "write")),
    "operator": ("acme", "operator", ("read", "write", "tenant")),
    "outside": ("default", "user", ("read", "write", "tenant")),
}


@asynccontextmanager
async def served(database_url, folder, **auth: Any):
    manifest = folder / "langgraph.json"
    manifest.write_text(json.dumps({"graphs": {"speaks": f"{GRAPHS}:speaks"}}))
    settings = settings_for(database_url, manifest, chat_graph="speaks", **auth)
    async with app_client(settings) as client:
        yield client


async def leave_strays(client, database, thread_id: str, **headers: str) -> None:
    """A thread with a state, whose row is gone: a restore may leave that, or a script."""
    made = await client.post("/threads", json={"thread_id": thread_id}, headers=headers)
    assert made.status_code == 200, made.text
    ran = await client.post(f"/threads/{thread_id}/runs/wait", json=run(SAID), headers=headers)
    assert CANARY in ran.text
    database.execute("DELETE FROM threads WHERE thread_id = %s", (thread_id,))


def run(given: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"assistant_id": "speaks", "input": given, **more}


def ways(thread_id: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """All ways to make a thread with an id of one's own."""
    made = f"/threads/{thread_id}/runs"
    steps = {
        "metadata": {"graph_id": "speaks"},
        "supersteps": [{"updates": [{"values": MORE, "as_node": "__start__"}]}],
    }
    creates = run(MORE, if_not_exists="create")
    return {
        "threads": ("/threads", {"thread_id": thread_id}),
        "if_exists": ("/threads", {"thread_id": thread_id, "if_exists": "do_nothing"}),
        "supersteps": ("/threads", {"thread_id": thread_id, **steps}),
        "wait": (f"{made}/wait", creates),
        "stream": (f"{made}/stream", creates),
        "queued": (made, {**creates, "after_seconds": 60}),
        "interrupting": (made, {**creates, "multitask_strategy": "interrupt"}),
        "chat": ("/chat", {"message": "more", "thread_id": thread_id}),
        "openai": (
            "/v1/chat/completions",
            {"model": "speaks", "metadata": {"thread_id": thread_id}, **MORE},
        ),
    }


@pytest.mark.parametrize("who", CALLERS)
async def test_nobody_with_an_identity_takes_checkpoints_without_a_thread(
    database_url, database, tmp_path, who
):
    owner = store_key(database_url, tenant="acme", owner="ada").text
    tenant, name, scopes = CALLERS[who]
    other = store_key(database_url, tenant=tenant, owner=name, scopes=scopes).text
    stray, named = str(uuid4()), str(conversation_uuid(tenant, name, "tea"))
    required = {"auth": {"mode": "required"}, "server": {"doors": "openai", "grace_seconds": 0}}
    async with served(database_url, tmp_path, **required) as client:
        for thread_id in (stray, named):
            await leave_strays(client, database, thread_id, **{"x-api-key": owner})
        asked = ways(stray)
        asked["named"] = ("/chat", {"message": "more", "thread_id": "tea"})
        for way, (path, body) in asked.items():
            for more in ({}, {"Idempotency-Key": uuid4().hex}):
                headers = {"x-api-key": other, **more}
                answer = await client.post(path, json=body, headers=headers)
                assert answer.status_code == 409, (way, answer.text)
                assert "`headrace db adopt`" in answer.text, way
                if way != "openai":
                    assert answer.json()["code"] == "stray_checkpoints", way
                assert CANARY not in answer.text
        assert database.execute("SELECT count(*) FROM threads").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (0,)
        # Other ids are as before, those that are named and those that the server makes.
        for path, body in ways(str(uuid4())).values():
            body.pop("after_seconds", None)
            answer = await client.post(path, json=body, headers={"x-api-key": other})
            assert answer.status_code in (200, 409), answer.text
        ours = await client.post("/chat", json={"message": "hi"}, headers={"x-api-key": other})
        assert (await client.get(f"/threads/{ours.json()['thread_id']}")).status_code == 401
        found = await client.get(
            f"/threads/{ours.json()['thread_id']}", headers={"x-api-key": other}
        )
        assert found.status_code == 200


@pytest.mark.parametrize("way", ["threads", "wait", "chat"])
async def test_where_callers_are_not_told_apart_they_are_taken(
    database_url, database, tmp_path, way
):
    """A database of LangGraph goes on, as its own server went on with it."""
    stray = str(uuid4())
    async with served(database_url, tmp_path) as client:
        await leave_strays(client, database, stray)
        path, body = ways(stray)[way]
        answer = await client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        assert CANARY in (await client.get(f"/threads/{stray}/state")).text


@pytest.mark.parametrize("whole_tenant", [True, False])
async def test_checkpoints_of_a_thread_that_is_there_are_no_strays(
    database_url, database, whole_tenant
):
    """Nor are those of a thread that is being deleted: a run waits, and gets a new thread."""
    principal = Principal("user", whole_tenant=whole_tenant)
    process, thread_id = register_process(database), str(uuid4())
    request = partial(run_request, thread_id, principal=principal)
    async with (
        open_pool(database_url) as pool,
        open_writer(pool) as writer,
        await psycopg.AsyncConnection.connect(database_url) as other,
    ):
        queue = Queue(pool, writer)
        database.execute(
            "INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint) VALUES (%s, 'c', '{}')",
            (thread_id,),
        )
        for refused in (queue.start_run_if_free(request(), process), queue.enqueue(request())):
            with pytest.raises(ThreadNotFound):
                await refused
        assert database.execute("SELECT count(*) FROM threads").fetchone() == (0,)
        database.execute(
            "INSERT INTO threads (thread_id, tenant, owner) VALUES (%s, 'default', 'user')",
            (thread_id,),
        )
        started = await queue.start_run_if_free(request(), process)
        assert (started.number, started.fresh_thread) == (1, False)
        for table in ("checkpoints", "threads"):
            await other.execute(f"DELETE FROM {table} WHERE thread_id = %s", (thread_id,))
        waits = asyncio.create_task(queue.enqueue(request()))
        await eventually(lambda: locks_are_waited_for(database))
        await other.commit()
        await waits
    assert database.execute("SELECT status FROM runs").fetchall() == [("pending",)]


def locks_are_waited_for(database) -> bool:
    row = database.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database()"
    ).fetchone()
    return bool(row[0])


def test_ids_that_the_server_makes_are_not_looked_up():
    """A run with such a thread starts in the call that all starts of a moment share."""
    ours = run_request(principal=Principal("user"))
    assert not takes_strays(ours)
    assert takes_strays(replace(ours, thread_id=str(thread_id_for(ours.run_id))))
    assert takes_strays(run_request(principal=ANONYMOUS))
