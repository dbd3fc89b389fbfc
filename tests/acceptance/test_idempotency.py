"""POSTs that are sent again make one thing."""

import asyncio

import httpx
import psycopg
import pytest

from headrace.ids import uuid7
from tests.support.live import live_server

pytestmark = pytest.mark.acceptance

HELLO = {"messages": [{"role": "user", "content": "hi"}]}
BODY = {"assistant_id": "agent", "input": HELLO}


@pytest.fixture(scope="module")
def module_server(module_database, tmp_path_factory):
    """Hundreds of requests wait here. On a busy machine some would be refused as too many."""
    folder = tmp_path_factory.mktemp("live")
    with live_server(folder, module_database, HEADRACE_REQUESTS__WAIT_SECONDS="60") as server:
        yield server


@pytest.fixture
async def http(module_server):
    async with httpx.AsyncClient(base_url=module_server.url, timeout=30) as opened:
        yield opened


def keyed() -> dict[str, str]:
    return {"Idempotency-Key": uuid7().hex}


async def new_thread(http) -> str:
    return str((await http.post("/threads", json={})).json()["thread_id"])


@pytest.mark.parametrize("route", ["runs", "runs/wait", "runs/stream"])
async def test_twenty_requests_with_one_key_make_one_run(http, module_server, route):
    thread_id, headers = await new_thread(http), keyed()

    async def post() -> httpx.Response:
        async with httpx.AsyncClient(base_url=module_server.url, timeout=30) as own:
            return await own.post(f"/threads/{thread_id}/{route}", json=BODY, headers=headers)

    answers = await asyncio.gather(*(post() for _ in range(20)))
    assert [answer.status_code for answer in answers] == [200] * 20
    assert len({answer.headers["content-location"] for answer in answers}) == 1
    assert len((await http.get(f"/threads/{thread_id}/runs?limit=100")).json()) == 1
    if route == "runs/wait":
        assert len({answer.content.strip() for answer in answers}) == 1


async def test_another_body_under_the_same_key_is_refused(http):
    thread_id, headers = await new_thread(http), keyed()
    path = f"/threads/{thread_id}/runs"
    await http.post(path, json=BODY, headers=headers)
    other = await http.post(path, json={**BODY, "metadata": {"a": 1}}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    elsewhere = await http.post(
        f"/threads/{await new_thread(http)}/runs", json=BODY, headers=headers
    )
    assert elsewhere.status_code == 200


async def test_a_refusal_is_not_remembered(http):
    thread_id, headers = str(uuid7()), keyed()
    path = f"/threads/{thread_id}/runs/wait"
    assert (await http.post(path, json=BODY, headers=headers)).status_code == 404
    await http.post("/threads", json={"thread_id": thread_id})
    assert (await http.post(path, json=BODY, headers=headers)).status_code == 200


async def test_a_try_whose_maker_is_gone_is_made_under_the_same_id(http, module_server):
    thread_id, headers, run_id = await new_thread(http), keyed(), uuid7()
    path = f"/threads/{thread_id}/runs"
    await http.post(path, json=BODY, headers=headers)
    with psycopg.connect(module_server.database_url, autocommit=True) as database:
        database.execute(
            "UPDATE idempotency_keys SET run_id = %s, thread_id = NULL,"
            " created_at = now() - interval '1 minute' WHERE key = %s",
            (run_id, headers["Idempotency-Key"]),
        )
        again = await http.post(path, json=BODY, headers=headers)
        assert again.json()["run_id"] == str(run_id)
        # The same once more, where the run had been made but the key does not say so.
        database.execute(
            "UPDATE idempotency_keys SET thread_id = NULL,"
            " created_at = now() - interval '1 minute' WHERE key = %s",
            (headers["Idempotency-Key"],),
        )
        assert (await http.post(path, json=BODY, headers=headers)).json()["run_id"] == str(run_id)
        # And after its time the key is new.
        database.execute(
            "UPDATE idempotency_keys SET created_at = now() - interval '25 hours' WHERE key = %s",
            (headers["Idempotency-Key"],),
        )
    assert (await http.post(path, json=BODY, headers=headers)).json()["run_id"] != str(run_id)


async def test_threads_are_made_once(http):
    headers = keyed()
    answers = await asyncio.gather(
        *(http.post("/threads", json={}, headers=headers) for _ in range(8))
    )
    assert len({answer.json()["thread_id"] for answer in answers}) == 1


async def test_a_stateless_run_is_not_run_again(http):
    headers = keyed()
    first = await http.post("/runs/wait", json=BODY, headers=headers)
    assert first.status_code == 200
    again = await http.post("/runs/wait", json=BODY, headers=headers)
    # Its thread may be gone already; it is not made again in either case.
    assert again.status_code in (200, 409)
    if again.status_code == 409:
        assert again.json()["code"] == "run_forgotten"
    else:
        assert again.headers["content-location"] == first.headers["content-location"]


async def test_a_key_is_bounded(http):
    answer = await http.post("/threads", json={}, headers={"Idempotency-Key": "k" * 256})
    assert answer.status_code == 422


async def test_hundreds_that_wait_with_one_key_get_the_values_or_are_told_that_they_are_gone(
    module_server,
):
    headers = keyed()
    limits = httpx.Limits(max_connections=600, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=module_server.url, timeout=60, limits=limits) as http:
        posts = (http.post("/runs/wait", json=BODY, headers=headers) for _ in range(600))
        answers = await asyncio.gather(*posts)
    for answer in answers:
        if answer.status_code == 200:
            assert [one["content"] for one in answer.json()["messages"]] == ["hi", "message 1"]
        else:
            assert (answer.status_code, answer.json()["code"]) == (409, "run_forgotten")
    assert [answer.status_code for answer in answers].count(200) > 0
