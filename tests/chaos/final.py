"""What the database holds when all is quiet."""

import asyncio
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import httpx
import psycopg

from tests.chaos.history import Asked, Checkpoint, Entry, Final, Firing, NodeEvent, Run, Thread

#: Of a row, to be read only once nothing changes any more.
_WRITTEN_AT = "extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8"


def read_ledger(path: Path) -> list[NodeEvent]:
    """What the nodes have noted."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [NodeEvent(**json.loads(line)) for line in lines]


async def settled(url: str, seconds: float) -> None:
    """Return once no run is active and every webhook was sent, or the time is over: then the
    checker says so.
    """
    with suppress(TimeoutError):
        async with (
            asyncio.timeout(seconds),
            await psycopg.AsyncConnection.connect(url, autocommit=True) as database,
        ):
            while True:
                cursor = await database.execute(
                    "SELECT (SELECT count(*) FROM runs WHERE ended_at IS NULL)"
                    " + (SELECT count(*) FROM webhook_deliveries WHERE state = 'due')"
                )
                if await cursor.fetchone() == (0,):
                    return
                await asyncio.sleep(0.1)


async def final_state(database_url: str, url: str, asked: Iterable[Asked]) -> Final:
    """
    :param url: of a pod, which is asked for the states of the threads.
    """
    final = Final()
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as database:
        cursor = await database.execute(
            "SELECT run_id::text, thread_id, coalesce(metadata->>'chaos', ''), status, attempt,"
            f" failures, {_WRITTEN_AT}, webhook IS NOT NULL FROM runs"
        )
        final.runs = [Run(*row) for row in await cursor.fetchall()]
        cursor = await database.execute(
            "SELECT metadata->>'cron_id',"
            " extract(epoch FROM (metadata->>'cron_slot')::timestamptz)::float8,"
            " extract(epoch FROM created_at)::float8 FROM runs WHERE metadata ? 'cron_slot'"
        )
        final.firings = [Firing(*row) for row in await cursor.fetchall()]
        cursor = await database.execute(
            "SELECT run_id::text, (one->>'attempt')::int"
            " FROM runs, jsonb_array_elements(coalesce(earlier_attempts, '[]')) AS one"
            " WHERE one->>'ended' = 'released'"
        )
        final.released = {(run_id, attempt) for run_id, attempt in await cursor.fetchall()}
        cursor = await database.execute(
            "SELECT thread_id, status, running_run_id::text FROM threads"
        )
        final.threads = [Thread(*row) for row in await cursor.fetchall()]
        cursor = await database.execute(
            "SELECT thread_id, checkpoint_id, parent_checkpoint_id, metadata->>'run_id',"
            f" (metadata->>'run_attempt')::int, {_WRITTEN_AT}"
            " FROM checkpoints WHERE checkpoint_ns = ''"
        )
        final.checkpoints = [Checkpoint(*row) for row in await cursor.fetchall()]
    there = {thread.thread_id for thread in final.threads}
    wanted = iter({one.thread_id for one in asked if one.kind != "undisturbed"} & there)

    async def read() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            for thread_id in wanted:
                state = (await client.get(f"/threads/{thread_id}/state")).raise_for_status()
                final.logs[thread_id] = Entry.read(state.json()["values"]) or []

    await asyncio.gather(*(read() for _ in range(4)))
    return final
