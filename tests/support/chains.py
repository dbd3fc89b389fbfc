"""Chains of checkpoints as runs write them, and a ledger of what each writer was told.

A step of a chain is a checkpoint with one blob, and what a task wrote to it. The ledger knows every
row that may be there, and which have to be.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, empty_checkpoint
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

CHANNEL = "messages"


def config_of(thread_id: str, number: int = 0) -> RunnableConfig:
    """The configuration that names a checkpoint of a chain; 0 names the thread alone."""
    configurable: dict[str, Any] = {"thread_id": thread_id, "checkpoint_ns": ""}
    if number:
        configurable["checkpoint_id"] = identity(number)
    return {"configurable": configurable}


def identity(number: int) -> str:
    return f"{number:012d}"


def checkpoint_of(number: int, value: Any, channel: str = CHANNEL) -> Checkpoint:
    return {
        **empty_checkpoint(),
        "id": identity(number),
        "channel_values": {channel: value},
        "channel_versions": {channel: identity(number)},
    }


async def put(
    saver: BaseCheckpointSaver, thread_id: str, number: int, value: Any, channel: str = CHANNEL
) -> None:
    """The checkpoint ``number`` of a thread, a child of the one before."""
    await saver.aput(
        config_of(thread_id, number - 1),
        checkpoint_of(number, value, channel),
        {"step": number},
        {channel: identity(number)},
    )


async def put_writes(saver: BaseCheckpointSaver, thread_id: str, number: int, value: Any) -> None:
    """What the task of a step wrote."""
    await saver.aput_writes(config_of(thread_id, number), [(CHANNEL, value)], f"task-{number}")


@dataclass
class Ledger:
    """What was asked of the engine, and of which it was said that it is committed."""

    #: By thread and number: the value written.
    checkpoints: dict[tuple[str, int], Any] = field(default_factory=dict)
    writes: dict[tuple[str, int], Any] = field(default_factory=dict)
    acknowledged: set[tuple[str, int]] = field(default_factory=set)
    acknowledged_writes: set[tuple[str, int]] = field(default_factory=set)

    async def put(
        self, saver: BaseCheckpointSaver, thread_id: str, number: int, value: Any
    ) -> None:
        self.checkpoints[thread_id, number] = value
        await put(saver, thread_id, number, value)

    async def put_writes(
        self, saver: BaseCheckpointSaver, thread_id: str, number: int, value: Any
    ) -> None:
        self.writes[thread_id, number] = value
        await put_writes(saver, thread_id, number, value)

    def acknowledge(self, thread_id: str, numbers: Iterable[int]) -> None:
        """The engine says that these steps are committed."""
        for number in numbers:
            self.acknowledged.add((thread_id, number))
            if (thread_id, number) in self.writes:
                self.acknowledged_writes.add((thread_id, number))

    def problems(self, url: str, *, chained: bool = True) -> list[str]:
        """What the database has that it should not have, or lacks."""
        with psycopg.connect(url, autocommit=True) as database:
            checkpoints = _checkpoints(database)
            writes = _writes(database)
            orphans = database.execute(
                "SELECT thread_id, version FROM checkpoint_blobs AS b WHERE NOT EXISTS ("
                " SELECT 1 FROM checkpoints AS c WHERE c.thread_id = b.thread_id"
                " AND c.checkpoint_id = b.version)"
            ).fetchall()
        found = [f"a blob without its checkpoint: {orphan}" for orphan in orphans]
        found += _differences("checkpoint", checkpoints, self.checkpoints, self.acknowledged)
        found += _differences("writes of", writes, self.writes, self.acknowledged_writes)
        return found + (_holes(checkpoints) if chained else [])


def _checkpoints(database: psycopg.Connection[Any]) -> dict[tuple[str, int], Any]:
    """Every checkpoint with the value of its blob; a missing blob is a missing value."""
    rows = database.execute(
        "SELECT c.thread_id, c.checkpoint_id, b.type, b.blob, (c.metadata->>'step')::int,"
        " c.checkpoint->>'id', c.parent_checkpoint_id"
        " FROM checkpoints AS c LEFT JOIN checkpoint_blobs AS b"
        " ON b.thread_id = c.thread_id AND b.checkpoint_ns = c.checkpoint_ns"
        " AND b.version = c.checkpoint_id"
    ).fetchall()
    found: dict[tuple[str, int], Any] = {}
    for thread_id, checkpoint_id, kind, blob, step, inner_id, parent_id in rows:
        number = int(checkpoint_id)
        whole = (
            blob is not None
            and step == number
            and inner_id == checkpoint_id
            and parent_id == (identity(number - 1) if number > 1 else None)
            and (thread_id, number) not in found
        )
        found[thread_id, number] = (
            JsonPlusSerializer().loads_typed((kind, blob)) if whole else "half of it"
        )
    return found


def _writes(database: psycopg.Connection[Any]) -> dict[tuple[str, int], Any]:
    rows = database.execute(
        "SELECT thread_id, checkpoint_id, type, blob, task_id, channel FROM checkpoint_writes"
    ).fetchall()
    found: dict[tuple[str, int], Any] = {}
    for thread_id, checkpoint_id, kind, blob, task_id, channel in rows:
        number = int(checkpoint_id)
        whole = (task_id, channel) == (f"task-{number}", CHANNEL)
        found[thread_id, number] = (
            JsonPlusSerializer().loads_typed((kind, blob)) if whole else "half of it"
        )
    return found


def _differences(
    what: str,
    found: dict[tuple[str, int], Any],
    asked: dict[tuple[str, int], Any],
    acknowledged: set[tuple[str, int]],
) -> list[str]:
    missing = [f"acknowledged {what} {key} is not there" for key in acknowledged - found.keys()]
    unasked = [f"{what} {key} was never asked for" for key in found.keys() - asked.keys()]
    foreign = [
        f"{what} {key} is not what was written: {str(value)[:60]!r}"
        for key, value in found.items()
        if key in asked and value != asked[key]
    ]
    return missing + unasked + foreign


def _holes(checkpoints: dict[tuple[str, int], Any]) -> list[str]:
    numbers: dict[str, set[int]] = {}
    for thread_id, number in checkpoints:
        numbers.setdefault(thread_id, set()).add(number)
    return [
        f"the chain of {thread_id} has a hole: {sorted(there)}"
        for thread_id, there in numbers.items()
        if there != set(range(1, len(there) + 1))
    ]
