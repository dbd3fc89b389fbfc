"""Lists of rows that callers have made large: they end early, or say what to ask instead."""

from contextlib import asynccontextmanager

import psycopg
import pytest

from tests.support.apps import app_client, settings_for
from tests.support.live import GRAPHS

KB = 1024
#: What a row holds; pglz stores text like this in a hundredth of it.
PART = "x" * (300 * KB)
MAX_BYTES = 800 * KB


@asynccontextmanager
async def server(database_url, **answers):
    bounds = {"max_bytes": MAX_BYTES, **answers}
    # Rows may be from before there was a limit of metadata.
    large = {"max_metadata_bytes": 8 * KB * KB}
    settings = settings_for(database_url, GRAPHS, answers=bounds, requests=large)
    async with app_client(settings) as client:
        yield client


@pytest.fixture
async def http(database_url):
    async with server(database_url) as client:
        yield client


async def thread(http, **body):
    return (await http.post("/threads", json=body)).json()["thread_id"]


async def with_runs(http, count, *, of=PART):
    """A thread with runs for later, which hold what their callers have sent."""
    thread_id = await thread(http)
    for _ in range(count):
        body = {"assistant_id": "agent", "input": {"said": of}, "after_seconds": 1000}
        answer = await http.post(f"/threads/{thread_id}/runs", json=body)
        assert answer.status_code == 200, answer.text[:300]
    return thread_id


async def all_pages(http, path, limit, method="POST"):
    """What a list gives that goes on from the header; each page in its place."""
    found, offset = [], "0"
    while offset is not None:
        asked = {"limit": limit, "offset": int(offset)}
        given = {"params": asked} if method == "GET" else {"json": asked}
        answer = await http.request(method, path, **given)
        assert answer.status_code == 200
        found.append(answer.json())
        assert len(answer.content) < MAX_BYTES + 100 * KB
        offset = answer.headers.get("X-Pagination-Next")
    return found


async def test_pages_of_runs_end_where_they_hold_too_much(http):
    thread_id = await with_runs(http, 5)
    path = f"/threads/{thread_id}/runs"
    found = await all_pages(http, path, 10, "GET")
    assert [len(page) for page in found] == [2, 2, 1]
    runs = [run for page in found for run in page]
    assert runs == sorted(runs, key=lambda run: run["run_id"], reverse=True)
    assert len({run["run_id"] for run in runs}) == 5
    assert all(run["kwargs"]["input"]["said"] == PART for run in runs)
    # What is not asked for is not read.
    listed = await http.get(path, params={"select": ["run_id", "status"]})
    assert [run["status"] for run in listed.json()] == ["pending"] * 5
    assert "X-Pagination-Next" not in listed.headers
    # Whom the limit ends has no header, as before.
    one = await http.get(path, params={"limit": 1})
    assert "X-Pagination-Next" not in one.headers


async def test_one_row_is_always_told(database_url):
    async with server(database_url, max_bytes=100 * KB) as http:
        thread_id = await with_runs(http, 2)
        (run,) = (await http.get(f"/threads/{thread_id}/runs", params={"limit": 1})).json()
        assert run["kwargs"]["input"]["said"] == PART


async def test_what_an_answer_may_hold_is_told_once_there_is_memory(database_url):
    async with server(database_url, max_bytes=4096 * KB, memory_bytes=1024 * KB) as http:
        thread_id = await with_runs(http, 5)
        for _ in range(2):  # the first has given its memory back
            answer = await http.get(f"/threads/{thread_id}/runs")
            assert [run["kwargs"]["input"]["said"] for run in answer.json()] == [PART] * 5


async def test_pages_of_threads_end_where_their_metadata_is_too_much(http):
    ids = {await thread(http, metadata={"said": PART}) for _ in range(5)}
    found = await all_pages(http, "/threads/search", 10)
    assert [len(page) for page in found] == [2, 2, 1]
    assert {one["thread_id"] for page in found for one in page} == ids
    assert all(one["metadata"]["said"] == PART for page in found for one in page)


async def test_a_filter_on_values_reads_no_more_rows_than_it_may(database_url):
    async with server(database_url, max_filtered_bytes=500 * KB) as http:
        for _ in range(3):
            thread_id = await thread(http, metadata={"said": PART, "team": 1})
            body = {"assistant_id": "agent", "input": {"messages": []}}
            await http.post(f"/threads/{thread_id}/runs/wait", json=body)
        asked = {"values": {"messages": []}, "metadata": {"team": 1}}
        refused = await http.post("/threads/search", json=asked)
        assert refused.status_code == 422
        assert "narrow them by ids" in refused.json()["detail"]
        assert (await http.post("/threads/count", json=asked)).status_code == 422


async def test_pages_of_assistants_end_where_they_hold_too_much(http):
    for _ in range(4):
        body = {"graph_id": "agent", "metadata": {"said": PART}}
        assert (await http.post("/assistants", json=body)).status_code == 200
    found = await all_pages(http, "/assistants/search", 10)
    assert len(found) == 2
    listed = [one for page in found for one in page]
    assert len({one["assistant_id"] for one in listed}) == len(listed)
    assert sum(one["metadata"].get("said") == PART for one in listed) == 4
    asked = {"limit": 100, "select": ["assistant_id", "name"]}
    assert len((await http.post("/assistants/search", json=asked)).json()) == len(listed)


async def test_pages_of_versions_end_where_they_hold_too_much(http):
    body = {"graph_id": "agent", "metadata": {"said": PART}}
    assistant_id = (await http.post("/assistants", json=body)).json()["assistant_id"]
    for number in range(3):
        await http.patch(f"/assistants/{assistant_id}", json={"name": f"n{number}"})
    found = await all_pages(http, f"/assistants/{assistant_id}/versions", 10)
    assert [[one["version"] for one in page] for page in found] == [[4, 3], [2, 1]]


async def test_items_that_hold_too_much_are_asked_for_in_fewer(http):
    for number in range(4):
        item = {"namespace": ["users"], "key": str(number), "value": {"said": PART}}
        assert (await http.put("/store/items", json=item)).status_code == 204
    asked = {"namespace_prefix": ["users"], "limit": 10}
    refused = await http.post("/store/items/search", json=asked)
    assert refused.status_code == 413
    assert "4 items hold" in refused.json()["detail"]
    some = await http.post("/store/items/search", json={**asked, "limit": 2})
    assert [item["value"]["said"] for item in some.json()["items"]] == [PART] * 2


async def test_what_looks_small_where_it_is_stored_is_measured_as_it_is_sent(http, database_url):
    """A control character is one byte in a row and six in JSON."""
    thread_id = await with_runs(http, 4, of="\x01" * (60 * KB))
    with psycopg.connect(database_url) as database:
        stored = database.execute("SELECT sum(pg_column_size(kwargs)) FROM runs").fetchone()
    assert stored is not None
    assert stored[0] < 100 * KB
    answer = await http.get(f"/threads/{thread_id}/runs")
    assert len(answer.json()) == 2
    assert len(answer.content) < MAX_BYTES
