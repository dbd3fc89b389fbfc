"""Threads over the wire and through langgraph-sdk, against two server processes."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError

pytestmark = pytest.mark.acceptance

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
UNKNOWN = "652a4154-7284-4ce2-b013-019f790080f5"


@pytest.fixture
async def client(module_server):
    async with get_client(url=module_server.url) as opened:
        yield opened


@pytest.fixture
async def http(module_server):
    async with httpx.AsyncClient(base_url=module_server.url, timeout=30) as opened:
        yield opened


def ids(threads) -> list[str]:
    return [thread["thread_id"] for thread in threads]


async def tagged(client, count: int) -> tuple[str, list[str]]:
    """New threads that have a tag in common, the newest first."""
    tag = uuid4().hex
    made = [await client.threads.create(metadata={"tag": tag, "n": n}) for n in range(count)]
    return tag, ids(reversed(made))


async def test_pages_are_newest_first_and_tell_whether_there_are_more(client, http):
    tag, made = await tagged(client, 5)
    seen, offset = [], 0
    for total, following in (("3", "2"), ("5", "4"), ("5", None)):
        answer = await http.post(
            "/threads/search", json={"metadata": {"tag": tag}, "limit": 2, "offset": offset}
        )
        assert answer.headers["x-pagination-total"] == total
        assert answer.headers.get("x-pagination-next") == following
        seen += ids(answer.json())
        offset = int(following or 0)
    assert seen == made
    assert await client.threads.count(metadata={"tag": tag}) == 5
    assert await client.threads.count(metadata={"tag": tag, "n": 3}) == 1
    assert await client.threads.count(metadata={"tag": tag, "n": True}) == 0


async def test_threads_are_found_by_id_and_sorted_as_asked(client):
    tag, made = await tagged(client, 4)
    assert ids(await client.threads.search(ids=[made[1], made[3], UNKNOWN])) == [made[1], made[3]]
    assert await client.threads.search(ids=[made[1]], metadata={"tag": "other"}) == []
    nothing = await client.http.post("/threads/search", json={"ids": []})
    assert nothing == [], "none are named"
    await client.threads.update(made[2], metadata={"later": {"a": 1}})

    async def found(by, order):
        return ids(await client.threads.search(metadata={"tag": tag}, sort_by=by, sort_order=order))

    assert await found("updated_at", "desc") == [made[2], made[0], made[1], made[3]]
    assert await found("created_at", "asc") == made[::-1]
    assert await found("thread_id", "asc") == sorted(made)
    assert await found("state_updated_at", "asc") == made[::-1]
    assert await found("status", "asc") == sorted(made, reverse=True)


async def test_each_status_is_found(client, http):
    tag = uuid4().hex
    threads = {
        name: (await client.threads.create(metadata={"tag": tag}))["thread_id"]
        for name in ("agent", "boom", "hitl", "slow")
    }
    for name, given in (("agent", HELLO), ("boom", {"topic": "x"}), ("hitl", {"topic": "x"})):
        await client.runs.wait(threads[name], name, input=given, raise_error=False)
    run = await client.runs.create(threads["slow"], "slow", input={"seconds": 5})
    statuses = {"idle": "agent", "error": "boom", "interrupted": "hitl", "busy": "slow"}
    for status, name in statuses.items():
        for metadata in ({"tag": tag}, {"tag": tag, "graph_id": name}):
            found = await client.threads.search(metadata=metadata, status=status)
            assert ids(found) == [threads[name]], status
            assert found[0]["status"] == status
            assert await client.threads.count(metadata=metadata, status=status) == 1
        alone = await client.threads.search(ids=list(threads.values()), status=status)
        assert ids(alone) == [threads[name]]
        first = (await client.threads.search(status=status, limit=1))[0]
        assert first["status"] == status
    await client.runs.cancel(threads["slow"], run["run_id"], wait=True)
    cancelled = await client.threads.search(metadata={"tag": tag}, status="interrupted")
    assert set(ids(cancelled)) == {threads["hitl"], threads["slow"]}
    assert await client.threads.count(metadata={"tag": tag}, status="busy") == 0


async def test_values_are_shown_filtered_and_extracted(client):
    tag, made = await tagged(client, 3)
    for thread_id, topic in zip(made, ("a", "b", "a"), strict=True):
        await client.runs.wait(thread_id, "memo", input={"topic": topic})
    found = await client.threads.search(metadata={"tag": tag}, values={"topic": "a"})
    assert ids(found) == [made[0], made[2]]
    assert found[0]["values"]["topic"] == "a"
    assert found[0] == await client.threads.get(made[0])
    page = await client.threads.search(
        metadata={"tag": tag}, values={"topic": "a"}, limit=1, offset=1, select=["thread_id"]
    )
    assert page == [{"thread_id": made[2]}]
    assert await client.threads.count(metadata={"tag": tag}, values={"topic": "b"}) == 1
    assert await client.threads.count(metadata={"tag": tag}, values={"topic": "c"}) == 0
    await client.runs.wait(made[1], "agent", input=HELLO)
    extracted = await client.threads.search(
        ids=[made[1]],
        select=["thread_id"],
        extract={
            "last": "values.messages[-1].content",
            "tag": "metadata.tag",
            "none": "values.messages[7].content",
        },
    )
    assert extracted == [
        {
            "thread_id": made[1],
            "extracted": {"last": "message 1", "tag": tag, "none": None},
        }
    ]


async def test_a_filter_on_values_that_looks_into_too_much_says_to_narrow(client, module_server):
    tag = uuid4().hex
    with psycopg.connect(module_server.database_url, autocommit=True) as database:
        database.execute(
            "INSERT INTO threads (thread_id, metadata, state_updated_at)"
            " SELECT gen_random_uuid()::text, jsonb_build_object('tag', %s::text), now()"
            " FROM generate_series(1, 1001)",
            (tag,),
        )
    with pytest.raises(UnprocessableEntityError, match="narrow"):
        await client.threads.search(metadata={"tag": tag}, values={"topic": "a"})
    assert await client.threads.count(metadata={"tag": tag}) == 1001
    page = await client.threads.search(metadata={"tag": tag}, limit=1000, select=["thread_id"])
    assert len(page) == 1000


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/threads/search", {"limit": 0}, "limit"),
        ("/threads/search", {"limit": 1001}, "limit"),
        ("/threads/search", {"offset": -1}, "offset"),
        ("/threads/search", {"status": "weird"}, "status"),
        ("/threads/search", {"sort_by": "owner"}, "sort_by"),
        ("/threads/search", {"select": ["tenant"]}, "select"),
        ("/threads/search", {"extract": {"a": "tenant"}}, "values.messages[-1].content"),
        ("/threads/search", {"extract": {str(n): "values" for n in range(11)}}, "10"),
        ("/threads/search", {"metadata": {"a": "\0"}}, "NUL"),
        ("/threads/search", {"values": 5}, "values"),
        ("/threads/count", {"metadata": []}, "metadata"),
        ("/threads/prune", {}, "thread_ids"),
        ("/threads/prune", {"thread_ids": [], "strategy": "x"}, "strategy"),
        ("/threads", {"thread_id": "not-a-uuid"}, "Invalid thread ID: must be a UUID"),
        ("/threads", {"ttl": 5}, "ttl"),
        ("/threads", {"ttl": {"ttl": 0}}, "ttl"),
    ],
)
async def test_a_refusal_names_what_to_change(http, path, body, says):
    answer = await http.post(path, json=body)
    assert answer.status_code == 422, answer.text
    assert says in answer.json()["detail"]


async def test_metadata_is_merged_and_the_answer_left_out_when_asked(client, http):
    made = await client.threads.create(metadata={"a": {"x": 1}, "b": 1})
    path = f"/threads/{made['thread_id']}"
    changed = await client.threads.update(made["thread_id"], metadata={"a": {"y": 2}, "c": None})
    assert changed["metadata"] == {"a": {"y": 2}, "b": 1, "c": None}
    assert changed["updated_at"] > made["updated_at"]
    quiet = await http.patch(
        path, json={"metadata": {"b": 2}}, headers={"Prefer": "return=minimal"}
    )
    assert (quiet.status_code, quiet.content) == (204, b"")
    assert (await client.threads.get(made["thread_id"]))["metadata"]["b"] == 2
    with pytest.raises(NotFoundError):
        await client.threads.update(UNKNOWN, metadata={})


async def test_a_time_to_live_is_shown_when_asked_for(client, http):
    made = await client.threads.create(ttl=60)
    assert "ttl" not in made
    assert "ttl" not in await client.threads.get(made["thread_id"])
    shown = (await client.threads.get(made["thread_id"], include=["ttl"]))["ttl"]
    assert (shown["strategy"], shown["ttl_minutes"]) == ("delete", 60)
    assert shown["expires_at"] > made["created_at"]
    await client.threads.update(
        made["thread_id"], metadata={}, ttl={"ttl": 0.5, "strategy": "keep_latest"}
    )
    shown = (await client.threads.get(made["thread_id"], include=["ttl"]))["ttl"]
    assert (shown["strategy"], shown["ttl_minutes"]) == ("keep_latest", 0.5)
    without = await client.threads.create()
    assert "ttl" not in await client.threads.get(without["thread_id"], include=["ttl"])


async def test_a_thread_whose_time_is_over_is_gone(client):
    thread_id = (await client.threads.create(ttl=0.001))["thread_id"]
    await client.runs.wait(thread_id, "agent", input=HELLO)
    async with asyncio.timeout(20):
        while await client.threads.search(ids=[thread_id]):
            await asyncio.sleep(0.1)


async def test_a_copy_has_the_whole_history_and_goes_its_own_way(client):
    source = await client.threads.create(metadata={"user": "u"})
    for _ in range(2):
        await client.runs.wait(source["thread_id"], "agent", input=HELLO)
    copy = await client.threads.copy(source["thread_id"])
    assert UUID(copy["thread_id"]).version == 4
    assert copy["status"] == "idle"
    assert copy["metadata"]["user"] == "u"
    original = await client.threads.get(source["thread_id"])
    assert (await client.threads.get(copy["thread_id"]))["values"] == original["values"]
    await client.runs.wait(copy["thread_id"], "agent", input=HELLO)
    assert (await client.threads.get(source["thread_id"]))["values"] == original["values"]
    assert len((await client.threads.get(copy["thread_id"]))["values"]["messages"]) == 6
    with pytest.raises(ConflictError, match="Conflict"):
        await client.threads.copy(UNKNOWN)


async def test_a_copy_with_a_key_is_made_once(client, http):
    source = await client.threads.create()
    await client.runs.wait(source["thread_id"], "agent", input=HELLO)
    path, headers = f"/threads/{source['thread_id']}/copy", {"Idempotency-Key": uuid4().hex}
    copies = await asyncio.gather(*(http.post(path, headers=headers) for _ in range(4)))
    assert len({copy.json()["thread_id"] for copy in copies}) == 1
    other = await http.post(path)
    assert other.json()["thread_id"] != copies[0].json()["thread_id"]
    unknown = f"/threads/{UNKNOWN}/copy"
    assert (await http.post(unknown, headers={"Idempotency-Key": "k"})).status_code == 409


async def test_a_copy_of_what_waits_for_an_answer_waits_too(client):
    source = await client.threads.create()
    await client.runs.wait(source["thread_id"], "hitl", input={"topic": "x"})
    copy = await client.threads.copy(source["thread_id"])
    assert copy["status"] == "interrupted"
    assert copy["interrupts"]
    values = await client.runs.wait(copy["thread_id"], "hitl", command={"resume": "yes"})
    assert values["answer"] == "yes"
    assert (await client.threads.get(source["thread_id"]))["status"] == "interrupted"


def rows_of(url: str, thread_id: str) -> int:
    tables = ("threads", "runs", "checkpoints", "checkpoint_blobs", "checkpoint_writes")
    with psycopg.connect(url) as database:
        found = [
            database.execute(
                f"SELECT count(*) FROM {table} WHERE thread_id = %s", (thread_id,)
            ).fetchone()
            for table in tables
        ]
    return sum(row[0] for row in found if row)


async def test_a_deleted_thread_leaves_nothing(client, module_server):
    thread = await client.threads.create()
    await client.runs.wait(thread["thread_id"], "agent", input=HELLO)
    assert rows_of(module_server.database_url, thread["thread_id"]) > 3
    await client.threads.delete(thread["thread_id"])
    assert rows_of(module_server.database_url, thread["thread_id"]) == 0
    for call in (client.threads.delete, client.threads.get):
        with pytest.raises(NotFoundError):
            await call(thread["thread_id"])


async def test_a_busy_thread_is_deleted_and_its_stream_ends(client, module_server):
    thread = await client.threads.create()
    stream = client.runs.stream(
        thread["thread_id"], "slow", input={"seconds": 20}, stream_mode="custom"
    )
    names, deleting = [], None
    async with asyncio.timeout(15):
        async for part in stream:
            names.append(part.event)
            if part.event == "custom" and deleting is None:
                deleting = asyncio.create_task(client.threads.delete(thread["thread_id"]))
        assert deleting is not None
        await deleting
    assert names[-1] in ("end", "error")
    assert rows_of(module_server.database_url, thread["thread_id"]) == 0


async def test_pruning_deletes_or_keeps_where_a_thread_stands(client, module_server):
    url = module_server.database_url
    threads = [(await client.threads.create())["thread_id"] for _ in range(3)]
    for thread_id in threads:
        for _ in range(3):
            await client.runs.wait(thread_id, "agent", input=HELLO)
    before = rows_of(url, threads[0])
    values = (await client.threads.get(threads[0]))["values"]
    kept = await client.threads.prune([threads[0], UNKNOWN], strategy="keep_latest")
    assert kept == {"pruned_count": 1}
    assert rows_of(url, threads[0]) < before
    assert (await client.threads.get(threads[0]))["values"] == values
    await client.runs.wait(threads[0], "agent", input=HELLO)
    assert len((await client.threads.get(threads[0]))["values"]["messages"]) == 8
    assert await client.threads.prune([*threads[1:], UNKNOWN]) == {"pruned_count": 2}
    assert [rows_of(url, thread_id) for thread_id in threads[1:]] == [0, 0]
    assert await client.threads.prune([]) == {"pruned_count": 0}


async def test_pruning_leaves_threads_whole_that_are_stored_step_by_step(client, module_server):
    thread = await client.threads.create()
    for _ in range(3):
        await client.runs.wait(thread["thread_id"], "stepwise", input=HELLO)
    before = rows_of(module_server.database_url, thread["thread_id"])
    pruned = await client.threads.prune([thread["thread_id"]], strategy="keep_latest")
    assert pruned == {"pruned_count": 0}
    # Of its ended runs the newest stays, of its checkpoints all.
    assert rows_of(module_server.database_url, thread["thread_id"]) == before - 2
    assert len(await client.runs.list(thread["thread_id"])) == 1
    assert len((await client.threads.get(thread["thread_id"]))["values"]["messages"]) == 6
