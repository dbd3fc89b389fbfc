"""Whether everything a contender said to have committed is there.

Every thread is counted, checkpoints and pending writes; of some the whole conversation is read. The
measure is LangGraph's own in-memory saver, given the same. The database is read on a connection of
its own with upstream's saver, never with the one that wrote.
"""

import random
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import AsyncConnection

from loadtests.bench.contenders import Contender, nothing_around
from loadtests.bench.drive import Driver, thread_config
from loadtests.bench.workloads import Workload

#: Threads whose conversation is read.
_READ = 8

_COUNTS = """
SELECT thread_id,
  (SELECT count(*) FROM checkpoints c WHERE c.thread_id = t.thread_id),
  (SELECT count(*) FROM checkpoint_writes w WHERE w.thread_id = t.thread_id)
FROM unnest(%s::text[]) AS t (thread_id)
"""


class LostWrites(Exception):
    """A contender lost what it had said to have committed, or has made it up."""


@dataclass(frozen=True)
class Trace:
    """What some runs leave behind on one thread."""

    checkpoints: int
    writes: int
    conversation: tuple[tuple[str, str], ...]


class Verifier:
    """Knows what a workload leaves behind; learns it for each number of runs once."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._expected: dict[int, Trace] = {}

    async def verify(
        self,
        name: str,
        contender: Contender,
        url: str | None,
        runs_by_thread: Mapping[str, int],
    ) -> None:
        """
        :param url: where the database is; None for a contender that keeps its checkpoints itself.
        :raises LostWrites: naming contender, workload, thread and what differs.
        """
        if contender.saver is None:
            return
        sampled = random.sample(sorted(runs_by_thread), min(_READ, len(runs_by_thread)))
        if url is None:
            for thread_id in sampled:
                found = await self._trace(contender.saver, thread_id)
                self._compare(name, thread_id, found, await self._expect(runs_by_thread[thread_id]))
            return
        counts = await _counts(url, list(runs_by_thread))
        async with AsyncPostgresSaver.from_conn_string(url) as saver:
            for thread_id, runs in runs_by_thread.items():
                wanted = await self._expect(runs)
                said = wanted.conversation
                if thread_id in sampled:
                    said = await self._conversation(saver, thread_id)
                found = Trace(*counts[thread_id], said)
                self._compare(name, thread_id, found, wanted)

    async def _expect(self, runs: int) -> Trace:
        if runs not in self._expected:
            contender = Contender(InMemorySaver(), nothing_around)
            driver = Driver(contender, self._workload)
            await driver.prepare(1)
            await driver.drive(runs, 1)
            (thread_id,) = driver.runs_by_thread
            assert contender.saver is not None
            self._expected[runs] = await self._trace(contender.saver, thread_id)
        return self._expected[runs]

    async def _trace(self, saver: BaseCheckpointSaver[Any], thread_id: str) -> Trace:
        found = [one async for one in saver.alist(thread_config(thread_id))]
        writes = sum(len(one.pending_writes or ()) for one in found)
        return Trace(len(found), writes, await self._conversation(saver, thread_id))

    async def _conversation(
        self, saver: BaseCheckpointSaver[Any], thread_id: str
    ) -> tuple[tuple[str, str], ...]:
        graph = self._workload.build().compile(checkpointer=saver)
        state = await graph.aget_state(thread_config(thread_id))
        return tuple((one.type, one.content) for one in state.values.get("messages", ()))

    def _compare(self, name: str, thread_id: str, found: Trace, wanted: Trace) -> None:
        for what in ("checkpoints", "writes", "conversation"):
            there, due = getattr(found, what), getattr(wanted, what)
            if there != due:
                raise LostWrites(
                    f"{name}, {self._workload.name}: thread {thread_id} has"
                    f" {what} {_said(there)}, not {_said(due)}"
                )


async def _counts(url: str, thread_ids: list[str]) -> dict[str, tuple[int, int]]:
    connection: AbstractAsyncContextManager[AsyncConnection] = await AsyncConnection.connect(url)
    async with connection as open_connection:
        cursor = await open_connection.execute(_COUNTS, [thread_ids])
        return {row[0]: (row[1], row[2]) for row in await cursor.fetchall()}


def _said(value: object) -> str:
    """A conversation of 200 messages is told by its length and its end."""
    if isinstance(value, tuple):
        return f"of {len(value)} messages ending with {value[-2:]}"
    return str(value)
