"""From a request to its receiver: runs that end, fail, wait or are cancelled, and receivers that
fail, are slow, or are too many.
"""

import asyncio
import json
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest

from headrace.db.pool import SharedPool
from headrace.server.webhooks import Webhooks
from headrace.webhooks.repository import DeliveryRepository
from headrace.webhooks.retention import DeliverySweeper
from tests.support.apps import GRAPHS, app_client_and_state, settings_for
from tests.support.hook_receiver import hook_receiver
from tests.support.waiting import eventually

RUN_FIELDS = {
    "run_id", "thread_id", "assistant_id", "metadata", "status", "kwargs", "multitask_strategy",
    "created_at", "updated_at", "run_started_at", "run_ended_at", "webhook_sent_at",
    "webhook_version", "values",
}  # fmt: skip
HI = {"messages": [{"role": "user", "content": "hi"}]}


class Client:
    def __init__(self, http, database, state) -> None:
        self.http, self.database, self.state = http, database, state

    async def post(self, path: str, graph: str, url: str, **body: Any):
        body = {"assistant_id": graph, "webhook": url, **body}
        return await self.http.post(path, json=body)

    async def thread(self) -> str:
        made: str = (await self.http.post("/threads", json={})).json()["thread_id"]
        return made

    def deliveries(self, columns: str = "state, tries, problem") -> list[Any]:
        found: list[Any] = self.database.execute(
            f"SELECT {columns} FROM webhook_deliveries ORDER BY created_at"
        ).fetchall()
        return found

    async def until(self, state: str, count: int = 1) -> None:
        await eventually(lambda: [one[0] for one in self.deliveries("state")].count(state) == count)


@pytest.fixture
def receiver():
    with hook_receiver() as made:
        yield made


@pytest.fixture
def open_client(database_url, database, tmp_path):
    @asynccontextmanager
    async def opened(http=None, webhooks=None, **settings):
        manifest = tmp_path / "langgraph.json"
        names = ("agent", "hitl", "boom", "slow")
        graphs = {name: f"{GRAPHS / 'graphs.py'}:{name}" for name in names if name != "slow"}
        graphs["slow"] = f"{GRAPHS / 'graphs.py'}:make_slow"
        url = {"require_https": False, "disable_loopback": False}
        manifest.write_text(
            json.dumps({"graphs": graphs, "http": http or {}, "webhooks": webhooks or {"url": url}})
        )
        own = {"poll_seconds": 0.1, "retry_seconds": 0.05, **settings}
        server = {"grace_seconds": 0, "shutdown_margin_seconds": 2}
        made = settings_for(database_url, manifest, webhooks=own, server=server)
        async with app_client_and_state(made) as (http_client, state):
            yield Client(http_client, database, state)

    return opened


async def received(receiver, count: int = 1):
    await eventually(lambda: len(receiver.received) >= count)
    return receiver.received


async def test_the_end_of_a_run_is_told_with_its_values(open_client, receiver):
    async with open_client() as client:
        thread = await client.thread()
        path = f"/threads/{thread}/runs/wait"
        answer = await client.post(path, "agent", receiver.url, input=HI, metadata={"from": "x"})
        (got,) = await received(receiver)
        (run,) = (await client.http.get(f"/threads/{thread}/runs")).json()
        told = got.json
        assert told.keys() == RUN_FIELDS
        assert told["values"] == answer.json()
        assert (told["status"], told["thread_id"], told["webhook_version"]) == (
            "success",
            thread,
            1,
        )
        for name in ("run_id", "assistant_id", "metadata", "kwargs", "multitask_strategy"):
            assert told[name] == run[name], name
        for name in ("created_at", "updated_at"):
            assert told[name][:19] == run[name][:19], name
        assert told["metadata"]["from"] == "x"
        assert run["kwargs"]["webhook"] == receiver.url
        await client.until("sent")
        assert client.deliveries("run, result, url") == [(None, None, receiver.url)]


async def test_a_run_that_fails_is_told_with_its_error(open_client, receiver):
    async with open_client() as client:
        await client.post("/runs/wait", "boom", receiver.url, input={"topic": "x"})
        (got,) = await received(receiver)
        told = got.json
        assert told.keys() == RUN_FIELDS | {"error"}
        assert told["status"] == "error"
        assert told["error"].keys() == {"error", "message"}
        assert told["values"] == {"topic": "x"}


async def test_a_run_that_waits_is_told_with_what_it_asks(open_client, receiver):
    async with open_client() as client:
        path = f"/threads/{await client.thread()}/runs/wait"
        answer = await client.post(path, "hitl", receiver.url, input={"topic": "tea"})
        (got,) = await received(receiver)
        told = got.json
        assert told["status"] == "success"
        assert told["values"] == {"topic": "tea"}
        assert told["interrupts"] == answer.json()["__interrupt__"]
        assert told["interrupts"][0]["value"] == {"question": "approve tea?"}
        await client.post(path, "hitl", receiver.url, command={"resume": "yes"})
        told = (await received(receiver, 2))[1].json
        assert told["values"]["answer"] == "yes"
        assert "interrupts" not in told


async def test_a_run_that_stops_before_a_node_is_told_with_the_node(open_client, receiver):
    async with open_client() as client:
        path = f"/threads/{await client.thread()}/runs/wait"
        await client.post(path, "agent", receiver.url, input=HI, interrupt_before="*")
        told = (await received(receiver))[0].json
        assert told["interrupts"] == [{"id": None, "node": "reply"}]


async def test_every_route_that_makes_a_run_takes_a_webhook(open_client, receiver):
    async with open_client() as client:
        thread = await client.thread()
        paths = ["/runs", "/runs/wait", "/runs/stream"]
        paths += [f"/threads/{thread}{path}" for path in paths]
        made = []
        for path in paths:
            answer = await client.post(path, "agent", receiver.url, input=HI)
            assert answer.status_code == 200, answer.text
            made.append(answer.headers["content-location"].rsplit("/", 1)[1])
        batch = await client.http.post(
            "/runs/batch",
            json=[{"assistant_id": "agent", "input": HI, "webhook": receiver.url}] * 2,
        )
        made += [one["run_id"] for one in batch.json()]
        got = await received(receiver, len(made))
        assert sorted(one.json["run_id"] for one in got) == sorted(made)
        assert all(one.json["values"]["messages"] for one in got)


async def test_a_run_that_is_cancelled_is_told_running_or_waiting(open_client, receiver):
    async with open_client() as client:
        path = f"/threads/{await client.thread()}/runs"
        runs = []
        for _ in range(2):
            answer = await client.post(path, "slow", receiver.url, input={"seconds": 30})
            runs.append(answer.json()["run_id"])
        for run_id in reversed(runs):
            await client.http.post(f"{path}/{run_id}/cancel?wait=1&reason=enough")
        by_run = {one.json["run_id"]: one.json for one in await received(receiver, 2)}
        assert {one["status"] for one in by_run.values()} == {"interrupted"}
        assert all(by_run[run_id]["error"]["error"] == "UserInterrupt" for run_id in runs)
        assert all(by_run[run_id]["error"]["reason"] == "enough" for run_id in runs)
        assert by_run[runs[1]]["values"] is None, "it has never begun"
        assert by_run[runs[1]]["run_started_at"] is None


async def test_a_run_that_is_undone_tells_nothing(open_client, receiver):
    async with open_client() as client:
        path = f"/threads/{await client.thread()}/runs"
        answer = await client.post(path, "slow", receiver.url, input={"seconds": 30})
        await client.http.post(f"{path}/{answer.json()['run_id']}/cancel?wait=1&action=rollback")
        await client.post(path + "/wait", "agent", receiver.url, input=HI)
        (got,) = await received(receiver)
        assert got.json["kwargs"]["input"] == HI


async def test_a_run_without_a_webhook_makes_no_delivery(open_client, receiver):
    async with open_client() as client:
        await client.http.post("/runs/wait", json={"assistant_id": "agent", "input": HI})
        await client.post("/runs/wait", "agent", "", input=HI)
        assert client.deliveries() == []
        assert client.database.execute("SELECT count(webhook) FROM runs").fetchone() == (0,)


async def test_failed_calls_are_repeated_with_one_id_until_one_succeeds(open_client, receiver):
    receiver.statuses = [500, 503, 302]
    async with open_client() as client:
        await client.post("/runs/wait", "agent", receiver.url, input=HI)
        got = await received(receiver, 4)
        assert len({one.message_id for one in got}) == 1
        assert len({one.json["run_id"] for one in got}) == 1
        await client.until("sent")
        assert client.deliveries() == [("sent", 4, None)]


async def test_after_the_last_try_a_delivery_is_dead_and_can_be_sent_again(open_client, receiver):
    receiver.statuses = [500] * 3
    async with open_client(max_attempts=3) as client:
        await client.post("/runs/wait", "agent", receiver.url, input=HI)
        await client.until("dead")
        assert client.deliveries() == [("dead", 3, "answered 500")]
        assert len(receiver.received) == 3
        client.database.execute(
            "UPDATE webhook_deliveries SET state = 'due', due_at = now(), tries = 0"
        )
        got = await received(receiver, 4)
        assert got[3].message_id == got[0].message_id
        assert got[3].json["values"] == got[0].json["values"]


async def test_a_dead_receiver_says_so_at_once(open_client, receiver):
    receiver.statuses = [410]
    async with open_client() as client:
        await client.post("/runs/wait", "agent", receiver.url, input=HI)
        await client.until("dead")
        assert client.deliveries() == [("dead", 1, "answered 410")]


async def test_a_receiver_gets_so_many_calls_at_once_and_does_not_hold_up_others(
    open_client, receiver
):
    receiver.answering.clear()
    async with open_client(max_in_flight=16, max_in_flight_per_receiver=2) as client:
        for _ in range(6):
            await client.post("/runs", "agent", receiver.url, input=HI)
        await received(receiver, 2)
        with hook_receiver() as other:
            await client.post("/runs/wait", "agent", other.url, input=HI)
            await received(other)
        assert receiver.most_in_flight == 2
        receiver.answering.set()
        await client.until("sent", 7)
        assert receiver.most_in_flight == 2
        assert len(receiver.received) == 6


async def test_receivers_that_hang_leave_calls_to_the_others(open_client, receiver):
    """Four times eight calls at once are all that a process makes."""
    with ExitStack() as stack:
        hanging = [stack.enter_context(hook_receiver()) for _ in range(4)]
        for one in hanging:
            one.answering.clear()
        async with open_client(timeout_seconds=60) as client:
            for one in hanging:
                for _ in range(9):
                    await client.post("/runs", "agent", one.url, input=HI)
            for one in hanging:
                await received(one)
            await client.post("/runs/wait", "agent", receiver.url, input=HI)
            await received(receiver)
            for one in hanging:
                one.answering.set()
            await client.until("sent", 37)


async def test_a_call_holds_no_connection_of_the_pool(open_client, receiver):
    receiver.answering.clear()
    bounds = {"max_in_flight": 40, "max_in_flight_per_receiver": 40, "receiver_share": 1.0}
    async with open_client(**bounds) as client:
        for _ in range(20):
            await client.post("/runs", "agent", receiver.url, input=HI)
        # The pool has ten connections.
        await received(receiver, 20)
        answer = await client.http.post("/runs/wait", json={"assistant_id": "agent", "input": HI})
        assert answer.status_code == 200
        receiver.answering.set()
        await client.until("sent", 20)


async def test_what_is_in_flight_at_the_end_of_a_process_is_given_back(open_client, receiver):
    receiver.answering.clear()
    async with open_client() as client:
        await client.post("/runs/wait", "agent", receiver.url, input=HI)
        await received(receiver)
    ((state, tries, due),) = client.deliveries("state, tries, due_at <= now()")
    assert (state, tries, due) == ("due", 0, True)
    receiver.answering.set()
    async with open_client() as client:
        await client.until("sent")
        assert receiver.received[0].message_id == receiver.received[1].message_id


async def test_a_drain_lets_calls_end_and_loses_none(open_client, receiver):
    receiver.answering.clear()
    async with open_client() as client:
        for _ in range(6):
            await client.post("/runs/wait", "agent", receiver.url, input=HI)
        await received(receiver, 4)
        # The answers come while the process ends.
        asyncio.get_running_loop().call_later(0.5, receiver.answering.set)
    assert sorted(client.deliveries("state, due_at <= now()")) == [
        *[("due", True)] * 2,
        *[("sent", None)] * 4,
    ]
    async with open_client() as client:
        await client.until("sent", 6)
    assert len({one.message_id for one in receiver.received}) == 6
    assert len(receiver.received) == 6


async def test_a_delivery_whose_process_died_is_sent_after_its_lease(open_client, receiver):
    async with open_client() as client:
        await client.post("/runs/wait", "agent", receiver.url, input=HI)
        await client.until("sent")
        # As another process has claimed it.
        client.database.execute(
            "UPDATE webhook_deliveries SET state = 'due', run = '{\"run_id\": \"r\"}', tries = 1,"
            " due_at = now() + interval '0.5 seconds'"
        )
        got = await received(receiver, 2)
        assert got[0].message_id == got[1].message_id
        await client.until("sent")
        assert client.deliveries() == [("sent", 2, None)]


async def test_what_the_url_tells_is_refused_with_the_request(open_client, receiver):
    async with open_client(webhooks={"url": {"allowed_ports": [443]}}) as client:
        for url, word in (
            ("/hook", "no host"),
            ("http://example.com/", "require_https"),
            ("https://127.0.0.1/", "loopback"),
            ("https://user@example.com/", "password"),
            ("https://example.com:444/", "allowed_ports"),
        ):
            for path in ("/runs", "/runs/wait", "/runs/stream"):
                refused = await client.post(path, "agent", url, input=HI)
                assert refused.status_code == 422, url
                assert refused.json()["detail"].startswith("webhook: ")
                assert word in refused.json()["detail"]
        assert client.database.execute("SELECT count(*) FROM runs").fetchone() == (0,)


async def test_webhooks_can_be_switched_off(open_client, receiver):
    async with open_client() as client:
        assert (await client.http.get("/info")).json()["flags"]["webhooks"] is True
    async with open_client(http={"disable_webhooks": True}) as client:
        refused = await client.post("/runs/wait", "agent", receiver.url, input=HI)
        assert refused.status_code == 422
        assert "disable_webhooks" in refused.json()["detail"]
        assert (await client.http.get("/info")).json()["flags"]["webhooks"] is False
        assert client.state.get(Webhooks).policy is None


async def test_headers_of_the_manifest_go_with_each_call(open_client, receiver, monkeypatch):
    monkeypatch.setenv("LG_WEBHOOK_TOKEN", "s3cret")
    url = {"require_https": False, "disable_loopback": False}
    headers = {"Authorization": "Bearer ${{ env.LG_WEBHOOK_TOKEN }}", "X-From": "here"}
    async with open_client(webhooks={"url": url, "headers": headers}) as client:
        await client.post("/runs/wait", "agent", receiver.url, input=HI)
        (got,) = await received(receiver)
        assert got.headers["authorization"] == "Bearer s3cret"
        assert got.headers["x-from"] == "here"


async def test_values_that_are_too_large_are_left_out(open_client, receiver):
    async with open_client(max_payload_bytes=20_000) as client:
        text = {"messages": [{"role": "user", "content": "x" * 15_000}]}
        await client.post("/runs/wait", "agent", receiver.url, input=text)
        told = (await received(receiver))[0].json
        assert told["values"] is None
        assert told["values_omitted"]


async def test_deliveries_expire_and_those_that_are_due_do_not(open_client):
    async with open_client(http={"disable_webhooks": True}) as client:
        for days in (6, 8):
            client.database.execute(
                "INSERT INTO webhook_deliveries ("
                " run_id, thread_id, url, state, run, due_at, created_at)"
                " SELECT gen_random_uuid(), 't', 'u', state, '{}', now(),"
                " now() - make_interval(days => %s)"
                " FROM unnest(ARRAY['staged', 'due', 'sent', 'dead']) AS given (state)",
                (days,),
            )
        repository = DeliveryRepository(client.state.get(SharedPool))
        sweeper = DeliverySweeper(repository, keep_seconds=7 * 86_400, interval_seconds=60)
        assert await sweeper.sweep() == 3
        left = [one[0] for one in client.deliveries("state")]
        assert sorted(left) == ["dead", "due", "due", "sent", "staged"]


async def test_many_ends_at_once_are_each_told_once(open_client, receiver):
    async with open_client() as client:
        await asyncio.gather(
            *(client.post("/runs/wait", "agent", receiver.url, input=HI) for _ in range(40))
        )
        await client.until("sent", 40)
        ids = [one.message_id for one in receiver.received]
        assert len(ids) == len(set(ids)) == 40
