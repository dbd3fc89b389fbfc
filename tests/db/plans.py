"""What tests/db/test_plans.py does: requests and calls that send headrace's statements, rows by the
thousand, and what Postgres counts meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import httpx
import psycopg

from headrace.checkpoints.fence import RunToken
from headrace.checkpoints.run_saver import RunSaver
from headrace.checkpoints.store_sweeper import StoreSweeper
from headrace.checkpoints.writer import Writer
from headrace.db.pool import SharedPool
from headrace.event_settings import EventSettings
from headrace.events.log import EventLog
from headrace.following.run_watcher import Watcher
from headrace.following.thread_watcher import ThreadWatcher
from headrace.graphs.persistence_entries import TtlEntry
from headrace.ids import uuid7
from headrace.queue.queue import Queue
from headrace.queue.ready_callers import CallerRuns
from headrace.runs.retention import RunSweeper
from headrace.threads.removal import ThreadRemoval
from headrace.threads.retention import RetentionSweeper
from headrace.usage.repository import UsageRepository
from headrace.webhooks.receivers import CallBounds
from headrace.webhooks.repository import DeliveryRepository
from tests.support.runs import DONE, expire_process, register_process, run_request
from tests.support.waiting import eventually

#: Rows that each table gets at once.
ROWS = 15_000

#: Tables that grow with use.
GROWING = (
    "assistant_versions",
    "assistants",
    "checkpoint_blobs",
    "checkpoint_writes",
    "checkpoints",
    "crons",
    "idempotency_keys",
    "run_events",
    "run_usage",
    "runs",
    "store",
    "threads",
    "webhook_deliveries",
)

GRAPHS = """
import asyncio

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt


async def reply(state):
    return {"messages": [AIMessage("hello")]}


async def ask(state):
    return {"messages": [AIMessage(str(interrupt("sure?")))]}


async def sleep(state):
    await asyncio.sleep(30)


def graph(node):
    built = StateGraph(MessagesState)
    built.add_node("node", node)
    built.add_edge(START, "node")
    built.add_edge("node", END)
    return built


plain, asking, slow = graph(reply), graph(ask), graph(sleep)
"""

_GROWTH = """
INSERT INTO assistants (assistant_id, graph_id, name, tenant, owner)
SELECT md5('a' || n)::uuid, 'plain', 'grown', 'default', 'anonymous'
FROM generate_series(1, %(rows)s) AS n;

INSERT INTO assistant_versions (assistant_id, version, graph_id, name)
SELECT md5('a' || n)::uuid, 1, 'plain', 'grown' FROM generate_series(1, %(rows)s) AS n;

INSERT INTO threads (thread_id, tenant, owner, metadata, status, state_updated_at, created_at)
SELECT md5('t' || n)::uuid::text, 'default', 'anonymous', '{"graph_id": "plain"}', 'idle', now(),
  now() - interval '1 hour' - n * interval '1 second'
FROM generate_series(1, %(rows)s) AS n;

INSERT INTO runs (run_id, thread_id, assistant_id, graph_id, tenant, owner, status, attempt,
  multitask_strategy, metadata, kwargs, started_at, ended_at, created_at)
SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
  md5('t' || n)::uuid::text, md5('a' || n)::uuid, 'plain', 'default', 'anonymous', 'success', 1,
  'enqueue', '{}', '{"input": null, "command": null}', now(), now(), now() - interval '1 hour'
FROM generate_series(1, %(rows)s) AS n;

INSERT INTO crons (cron_id, assistant_id, thread_id, schedule, owner, next_run_date, look_at)
SELECT md5('j' || n)::uuid, md5('a' || n)::uuid, md5('t' || n)::uuid::text, '0 5 * * *', 'somebody',
  now() + n * interval '1 hour', now() + n * interval '1 hour'
FROM generate_series(1, %(rows)s) AS n;

INSERT INTO run_events (run_id, event_id, attempt, event, data)
SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(1 + n % 10), 12, '0'))::uuid, n, 1, 'values', '{}'
FROM generate_series(1, %(rows)s) AS n;

INSERT INTO run_usage (run_id, attempt, model, tenant, owner, thread_id, assistant_id, graph_id,
  calls, input_tokens, output_tokens, cached_tokens, reasoning_tokens)
SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 1, 'm', 'default',
  'somebody', md5('t' || n)::uuid::text, md5('a' || n)::uuid, 'plain', 1, 1, 1, 0, 0
FROM generate_series(1, %(rows)s) AS n;

INSERT INTO webhook_deliveries (run_id, thread_id, url, state, settled_at)
SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, md5('t' || n)::uuid::text,
  'https://hooks.example.com/', 'sent', now()
FROM generate_series(1, %(rows)s) AS n;

INSERT INTO idempotency_keys (tenant, route, key, body_sha256, run_id, thread_id)
SELECT 'default', 'POST /grown', 'k' || n, '', md5('k' || n)::uuid, md5('t' || n)::uuid::text
FROM generate_series(1, %(rows)s) AS n;

INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata)
SELECT md5('t' || n)::uuid::text, '', md5('c' || n)::uuid::text,
  '{"v": 4, "id": "c", "ts": "2026-01-01T00:00:00+00:00", "channel_values": {},
    "channel_versions": {"messages": "1"}, "versions_seen": {}}', '{"source": "loop", "step": 1}'
FROM generate_series(1, %(rows)s) AS n;

INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
SELECT md5('t' || n)::uuid::text, '', 'messages', '1', 'msgpack', '\\x90'
FROM generate_series(1, %(rows)s) AS n;

INSERT INTO checkpoint_writes (
  thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
SELECT md5('t' || n)::uuid::text, '', md5('c' || n)::uuid::text, 'task', '', 0, 'messages',
  'msgpack', '\\x90'
FROM generate_series(1, %(rows)s) AS n;

INSERT INTO store (prefix, key, value)
SELECT 'grown.' || n, 'k', '{"n": 1}' FROM generate_series(1, %(rows)s) AS n;
"""


def quiet_tables(database: psycopg.Connection[Any]) -> None:
    """Let no autovacuum analyse what a test leaves without statistics."""
    for (name,) in database.execute(
        "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r'"
        " AND relnamespace = 'public'::regnamespace"
    ).fetchall():
        database.execute(f"ALTER TABLE {name} SET (autovacuum_enabled = off)")


def grow(database: psycopg.Connection[Any], rows: int = ROWS) -> None:
    """A bulk load into each growing table."""
    for statement in _GROWTH.split(";\n\n"):
        database.execute(statement.replace("%(rows)s", str(rows)).encode())


@dataclass(frozen=True, slots=True)
class Reads:
    """How many rows of a table were read, in full scans and through indexes."""

    scanned: int
    fetched: int

    @property
    def rows(self) -> int:
        return self.scanned + self.fetched

    def since(self, before: "Reads") -> "Reads":
        return Reads(self.scanned - before.scanned, self.fetched - before.fetched)


def reads(database: psycopg.Connection[Any]) -> dict[str, Reads]:
    """The figures of each growing table. Sessions report theirs when they are idle."""
    rows = database.execute(
        "SELECT relname, seq_tup_read, coalesce(idx_tup_fetch, 0)"
        " FROM pg_stat_user_tables WHERE relname = ANY (%s)",
        (list(GROWING),),
    ).fetchall()
    return {name: Reads(*figures) for name, *figures in rows}


Step = Callable[[], Awaitable[None]]


class Steps:
    """Requests to two servers, and calls of what no request reaches. Each may be repeated.

    ``following``: what the second server follows.
    """

    def __init__(
        self,
        here: httpx.AsyncClient,
        there: httpx.AsyncClient,
        pool: SharedPool,
        saver: RunSaver,
        writer: Writer,
        removal: ThreadRemoval,
        database: psycopg.Connection[Any],
        following: tuple[Watcher, ThreadWatcher],
    ) -> None:
        self._here = here
        self._there = there
        self._pool = pool
        self._saver = saver
        self._writer = writer
        self._removal = removal
        self._database = database
        self._following, self._following_threads = following
        self._queue = Queue(pool, self._writer)

    def all(self) -> dict[str, Step]:
        """The steps by name."""
        found = {name: getattr(self, name) for name in dir(self) if name.startswith("do_")}
        return {name.removeprefix("do_"): step for name, step in found.items()}

    async def once(self) -> None:
        """Each step once, except waiting."""
        for name, step in self.all().items():
            if name != "nothing":
                await step()

    async def _send(
        self, method: str, path: str, body: Any = None, *, there: bool = False, **headers: str
    ) -> Any:
        client = self._there if there else self._here
        answer = await client.request(
            method, path, json=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )
        assert answer.status_code < 400, (method, path, answer.status_code, answer.text)
        is_json = "json" in answer.headers.get("content-type", "")
        return answer.json() if is_json and answer.content else answer.text

    async def _thread(self, **body: Any) -> str:
        return str((await self._send("POST", "/threads", body))["thread_id"])

    async def _used_thread(self, graph: str = "plain") -> str:
        thread_id = await self._thread()
        await self._send("POST", f"/threads/{thread_id}/runs/wait", _run(graph))
        return thread_id

    async def do_threads_are_created(self) -> None:
        await self._thread(metadata={"a": 1})
        body = {"thread_id": str(uuid4()), "ttl": {"ttl": 60, "strategy": "delete"}}
        await self._send("POST", "/threads", body)
        await self._send("POST", "/threads", {**body, "if_exists": "do_nothing"})
        key = str(uuid4())
        await self._send("POST", "/threads", {}, idempotency_key=key)
        await self._send("POST", "/threads", {}, idempotency_key=key)

    async def do_a_thread_is_created_with_states(self) -> None:
        update = {"values": {"messages": [{"role": "user", "content": "hi"}]}, "as_node": "node"}
        await self._thread(
            metadata={"graph_id": "plain"}, supersteps=[{"updates": [update]}], if_exists="raise"
        )

    async def do_a_thread_is_read_and_changed(self) -> None:
        thread_id = await self._used_thread()
        await self._send("GET", f"/threads/{thread_id}")
        await self._send("GET", f"/threads/{thread_id.upper()}?include=ttl")
        await self._send("PATCH", f"/threads/{thread_id}", {"metadata": {"b": 2}})
        await self._send("POST", f"/threads/{thread_id}/copy")

    async def do_threads_are_listed(self) -> None:
        thread_id = await self._used_thread()
        for body in (
            {},
            {"status": "idle"},
            {"status": "busy"},
            {"status": "interrupted"},
            {"ids": [thread_id]},
            {"metadata": {"graph_id": "plain"}, "limit": 5},
        ):
            await self._send("POST", "/threads/search", body)

    async def do_threads_are_sorted_and_counted(self) -> None:
        await self._send("POST", "/threads/search", {"sort_by": "updated_at", "limit": 2})
        await self._send("POST", "/threads/search", {"metadata": {"a": "none"}})
        await self._send("POST", "/threads/count", {})
        await self._send("POST", "/threads/count", {"metadata": {"graph_id": "plain"}})

    async def do_states_are_read(self) -> None:
        thread_id = await self._used_thread()
        path = f"/threads/{thread_id}"
        state = await self._send("GET", f"{path}/state")
        await self._send("GET", f"{path}/state/{state['checkpoint_id']}")
        await self._send("POST", f"{path}/state/checkpoint", {"checkpoint": state["checkpoint"]})
        await self._send("GET", f"{path}/history?limit=5&before={state['checkpoint_id']}")
        await self._send("POST", f"{path}/history", {"metadata": {"source": "loop"}, "limit": 3})
        await self._send("GET", f"{path}/storage")

    async def do_a_state_is_changed(self) -> None:
        thread_id = await self._used_thread()
        values = {"messages": [{"role": "user", "content": "changed"}]}
        await self._send("POST", f"/threads/{thread_id}/state", {"values": values})

    async def do_threads_are_deleted_and_pruned(self) -> None:
        await self._send("DELETE", f"/threads/{await self._used_thread()}")
        thread_id = await self._used_thread()
        await self._send("POST", f"/threads/{thread_id}/runs/wait", _run("plain"))
        for strategy in ("keep_latest", "delete"):
            body = {"thread_ids": [thread_id], "strategy": strategy}
            await self._send("POST", "/threads/prune", body)

    async def do_runs_go_on_a_thread(self) -> None:
        thread_id = await self._used_thread()
        path = f"/threads/{thread_id}/runs"
        await self._send("POST", f"{path}/wait", _run("plain"), idempotency_key=str(uuid4()))
        await self._send("POST", f"{path}/stream", _run("plain", stream_resumable=True))
        runs = await self._send("GET", path)
        for status in ("success", "interrupted"):
            await self._send("GET", f"{path}?status={status}")
        run_id = runs[0]["run_id"]
        await self._send("GET", f"{path}/{run_id}")
        await self._send("GET", f"{path}/{run_id}/timeline")
        await self._send("GET", f"{path}/{run_id}/join", there=True)
        await self._send("GET", f"{path}/{run_id}/stream", there=True, last_event_id="0")
        await self._send("GET", f"/runs/{run_id}/join", there=True)
        await self._send("DELETE", f"{path}/{run_id}")

    async def do_runs_go_without_a_thread(self) -> None:
        await self._send("POST", "/runs/wait", _run("plain"))
        await self._send("POST", "/runs/wait", _run("plain", on_completion="keep"))
        await self._send("POST", "/runs/stream", _run("plain"))
        for run in await self._send("POST", "/runs/batch", [_run("plain")] * 3):
            await self._send("GET", f"/threads/{run['thread_id']}/runs/{run['run_id']}/join")

    async def do_webhooks_are_sent(self) -> None:
        repository = DeliveryRepository(self._pool)
        await repository.stage(RunToken(uuid4(), 1, uuid4()), b"{}")
        for _ in range(2):
            self._database.execute(
                "INSERT INTO webhook_deliveries (run_id, thread_id, url, state, run, due_at)"
                " VALUES (gen_random_uuid(), 't', 'https://127.0.0.1/', 'due', '{}', now())"
            )
        claimed = await repository.claim(
            limit=2,
            bounds=CallBounds(["c"], ["c\nx"], ["c"], ["c\ny"]),
            lease_seconds=60,
        )
        await repository.release(claimed[:1])
        for delivery in claimed:
            await repository.settle(delivery, "dead", problem="refused")
        await repository.delete_expired(86_400)

    async def do_runs_wait_for_each_other(self) -> None:
        thread_id = await self._used_thread()
        path = f"/threads/{thread_id}/runs"
        for strategy in ("enqueue", "interrupt", "rollback", "enqueue"):
            await self._send("POST", path, _run("slow", multitask_strategy=strategy))
        answer = await self._here.post(path, json=_run("slow", multitask_strategy="reject"))
        assert answer.status_code == 409
        await self._send("POST", path, _run("slow", after_seconds=60))
        await self._send("POST", "/runs/cancel?action=interrupt", {"status": "all"})
        await self._send("DELETE", f"/threads/{thread_id}")

    async def do_a_run_elsewhere_is_cancelled_and_followed(self) -> None:
        thread_id = await self._thread()
        path = f"/threads/{thread_id}/runs"
        run = await self._send("POST", path, _run("slow"))
        followed = asyncio.create_task(
            self._send("GET", f"{path}/{run['run_id']}/stream", there=True)
        )
        streamed = asyncio.create_task(self._first_bytes(f"/threads/{thread_id}/stream", wanted=1))
        await eventually(lambda: self._following.watching and self._following_threads.watching)
        await self._send("POST", f"{path}/{run['run_id']}/cancel?wait=1", there=True)
        await followed
        streamed.cancel()
        await asyncio.gather(streamed, return_exceptions=True)
        run = await self._send("POST", path, _run("slow"))
        await self._send(
            "POST", f"{path}/{run['run_id']}/cancel?action=rollback&wait=1", there=True
        )

    async def _first_bytes(self, path: str, *, wanted: int) -> None:
        async with self._there.stream("GET", path) as answer:
            async for _ in answer.aiter_bytes():
                wanted -= 1
                if not wanted:
                    return

    async def do_a_run_is_resumed(self) -> None:
        thread_id = await self._used_thread("asking")
        path = f"/threads/{thread_id}/runs"
        await self._send(
            "POST", f"{path}/wait", {"assistant_id": "asking", "command": {"resume": 1}}
        )
        (last, *_) = await self._send("GET", path)
        await self._send("GET", f"{path}/{last['run_id']}/timeline")

    async def do_assistants_live(self) -> None:
        made = await self._send("POST", "/assistants", {"graph_id": "plain", "name": "mine"})
        path = f"/assistants/{made['assistant_id']}"
        await self._send("GET", path)
        await self._send("PATCH", path, {"name": "yours"})
        await self._send("POST", f"{path}/versions", {})
        await self._send("POST", f"{path}/latest", {"version": 1})
        await self._send("DELETE", path)

    async def do_assistants_are_listed(self) -> None:
        await self._send("POST", "/assistants/search", {"graph_id": "plain", "limit": 5})
        await self._send("POST", "/assistants/count", {"graph_id": "plain"})

    async def do_crons_live(self) -> None:
        thread_id = await self._thread()
        made = await self._send("POST", "/runs/crons", _cron())
        await self._send("POST", f"/threads/{thread_id}/runs/crons", _cron())
        path = f"/runs/crons/{made['cron_id']}"
        await self._send("GET", path)
        self._database.execute(
            "UPDATE crons SET next_run_date = now(), look_at = now() WHERE cron_id = %s",
            (made["cron_id"],),
        )
        # The notice of this change lets the processes look.
        await self._send("POST", f"/threads/{thread_id}/runs/crons", _cron())
        await eventually(
            lambda: self._database.execute(
                "SELECT 1 FROM crons WHERE cron_id = %s AND next_run_date > now()",
                (made["cron_id"],),
            ).fetchone()
        )
        await self._send("PATCH", path, {"enabled": False})
        await self._send("DELETE", path)
        await self._send("DELETE", f"/threads/{thread_id}")

    async def do_crons_are_listed(self) -> None:
        await self._send("POST", "/runs/crons/search", {})
        await self._send("POST", "/runs/crons/search", {"offset": 5, "sort_order": "asc"})

    async def do_crons_are_sorted_and_counted(self) -> None:
        await self._send("POST", "/runs/crons/search", {"sort_by": "next_run_date"})
        await self._send("POST", "/runs/crons/count", {})

    async def do_store_items_live(self) -> None:
        item = {"namespace": ["people", "ann"], "key": "name"}
        await self._send("PUT", "/store/items", {**item, "value": {"is": "Ann"}})
        await self._send("GET", "/store/items?namespace=people.ann&key=name")
        await self._send("POST", "/store/items/search", {"namespace_prefix": ["people"]})
        await self._send("DELETE", "/store/items", item)

    async def do_namespaces_are_listed(self) -> None:
        await self._send("POST", "/store/namespaces", {"prefix": ["people"]})

    async def do_chat(self) -> None:
        reply = await self._send("POST", "/chat", {"message": "hi"})
        for _ in range(2):
            await self._send("POST", "/chat", {"message": "again", "thread_id": reply["thread_id"]})
        await self._send("GET", f"/threads/{reply['thread_id']}/history?limit=10")

    async def do_a_process_is_lost(self) -> None:
        lost, owner = register_process(self._database), register_process(self._database)
        for graph_id in ("agent", "agent", "elsewhere"):
            await self._queue.enqueue(_request(graph_id))
        await self._queue.claimer.claim(lost, ["agent"], 10)
        await self._queue.attempts_of(lost)
        await self._queue.requests_to([lost])
        await self._queue.figures()
        expire_process(self._database, lost)
        await self._queue.takeover.take_runs_of_lost_processes({}, max_failures=3)
        await self._queue.takeover.take_runs_of_dead_processes({lost: 1.0}, {}, max_failures=3)
        self._database.execute(
            "UPDATE runs SET failures = 2 WHERE run_id = (SELECT max(run_id::text)::uuid FROM runs"
            " WHERE failures = 1 AND status = 'pending')"
        )
        await self._queue.claimer.lost_runs(owner, ["agent"], apart_seconds=1)
        for run in [
            *await self._queue.claimer.claim_rescued(owner, ["agent"], 10),
            *await self._queue.claimer.claim_suspect(owner, ["agent"]),
        ]:
            await self._queue.end_if_owned(run.token, run.request.thread_id, DONE)
        self._database.execute("UPDATE runs SET failures = 0 WHERE failures > 0")
        ready = await self._queue.callers.ready(["agent"], 10)
        await self._queue.callers.pending()
        claimed = await self._queue.claimer.claim_for_callers(
            owner, ["agent"], ready or [CallerRuns("", 1, self._now())]
        )
        for run in claimed:
            await self._queue.end_if_owned(run.token, run.request.thread_id, DONE)
        await self._queue.takeover.end_unserved_runs(0)
        await self._queue.takeover.end_overdue_runs()
        await self._queue.takeover.mend_threads()

    def _now(self) -> Any:
        return self._database.execute("SELECT now()").fetchone()[0]  # type: ignore[index]

    async def do_old_rows_are_swept(self) -> None:
        events = EventLog(self._pool, self._writer, EventSettings())
        await events.delete_expired(3600)
        await RunSweeper(
            self._pool, keep_seconds=3600, interval_seconds=60, limit=300, count=lambda _: None
        ).sweep()
        await StoreSweeper(self._pool, interval_seconds=60, count=lambda _: None).sweep()
        await UsageRepository(self._pool).delete_expired(3600 * 24)
        self._writer.strays.remember([str(uuid4())])
        await self._queue.abandoned_temporary_threads(older_than_seconds=1)

    async def do_old_threads_are_swept(self) -> None:
        for strategy in ("delete", "keep_latest"):
            thread_id = await self._used_thread()
            self._database.execute(
                "UPDATE threads SET sweep_at = now(), ttl_minutes = 1e-6, ttl_strategy = %s"
                " WHERE thread_id = %s",
                (strategy, thread_id),
            )
        entry = TtlEntry(default_ttl=100_000, sweep_limit=50)
        await RetentionSweeper(
            self._pool, self._removal, entry, count=lambda action, threads: None
        ).sweep()

    async def do_checkpoints_are_listed(self) -> None:
        thread_id = await self._used_thread()
        where: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
        found = [one async for one in self._saver.alist(where, limit=3)]
        await self._saver.aget_tuple(found[-1].config)
        await self._saver.aget_tuple(where)
        await self._saver.acopy_thread(thread_id, str(uuid4()))
        await self._saver.adelete_thread(thread_id)

    async def do_nothing(self) -> None:
        """The processes look at the queue, at the leases, and at what is watched."""
        await asyncio.sleep(0.7)


def _cron() -> dict[str, Any]:
    return {**_run("plain"), "schedule": "0 0 1 1 *"}


def _run(graph: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "hi"}]
    return {"assistant_id": graph, "input": {"messages": messages}, **more}


def _request(graph_id: str) -> Any:
    return replace(run_request(str(uuid7())), graph_id=graph_id)
