"""Calls of a saver as data: each can be made of any saver, and answers in a form to be compared."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from langgraph.checkpoint.base import BaseCheckpointSaver
from psycopg import AsyncConnection
from pydantic import BaseModel

from headrace.checkpoints.rows import stored_writes
from headrace.checkpoints.upstream import PooledSaver

Config = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """A namespace of a thread, with or without one of its checkpoints."""

    thread: str
    #: None leaves it out of the configuration.
    namespace: str | None = ""
    number: int | None = None

    def config(self, **more: Any) -> Config:
        found = {"thread_id": self.thread, **more}
        if self.namespace is not None:
            found["checkpoint_ns"] = self.namespace
        if self.number is not None:
            found["checkpoint_id"] = self.checkpoint_id(self.number)
        return {"configurable": found}

    def checkpoint_id(self, number: int) -> str:
        """Later ones have greater ids. No two places share one, so that every listing has an
        order: between equal ids there is none, and two savers may answer differently."""
        where = f"{self.thread}/{self.namespace or ''}".encode("utf-8", "backslashreplace").hex()
        return f"{number:08d}-{where}"


@dataclass(frozen=True)
class Put:
    place: Place
    number: int
    checkpoint: Mapping[str, Any]
    metadata: Mapping[str, Any]
    new_versions: Mapping[str, Any]
    more: Mapping[str, Any]

    async def of(self, saver: BaseCheckpointSaver[Any]) -> Any:
        checkpoint = {**self.checkpoint, "id": self.place.checkpoint_id(self.number)}
        return await saver.aput(
            self.place.config(**self.more),  # type: ignore[arg-type]
            checkpoint,  # type: ignore[arg-type]
            dict(self.metadata),  # type: ignore[arg-type]
            dict(self.new_versions),
        )


@dataclass(frozen=True)
class PutWrites:
    place: Place
    writes: Sequence[tuple[str, Any]]
    task: str
    path: str

    async def of(self, saver: BaseCheckpointSaver[Any]) -> Any:
        # Ours stores nothing that a failed task has written by then, and upstream's does.
        writes = self.writes if isinstance(saver, PooledSaver) else stored_writes(self.writes)
        await saver.aput_writes(
            self.place.config(),  # type: ignore[arg-type]
            list(writes),
            self.task,
            self.path,
        )


@dataclass(frozen=True)
class GetTuple:
    place: Place

    async def of(self, saver: BaseCheckpointSaver[Any]) -> Any:
        return await saver.aget_tuple(self.place.config())  # type: ignore[arg-type]


@dataclass(frozen=True)
class ListThem:
    """``place`` None lists all threads."""

    place: Place | None
    filter: Mapping[str, Any] | None
    before: Place | None
    limit: int | None

    async def of(self, saver: BaseCheckpointSaver[Any]) -> Any:
        found = saver.alist(
            self.place and self.place.config(),  # type: ignore[arg-type]
            filter=None if self.filter is None else dict(self.filter),
            before=self.before and self.before.config(),  # type: ignore[arg-type]
            limit=self.limit,
        )
        return [one async for one in found]


@dataclass(frozen=True)
class History:
    place: Place
    channels: Sequence[str]

    async def of(self, saver: BaseCheckpointSaver[Any]) -> Any:
        return await saver.aget_delta_channel_history(
            config=self.place.config(),  # type: ignore[arg-type]
            channels=list(self.channels),
        )


@dataclass(frozen=True)
class DeleteThread:
    place: Place

    async def of(self, saver: BaseCheckpointSaver[Any]) -> Any:
        await saver.adelete_thread(self.place.thread)


@dataclass(frozen=True)
class Prune:
    places: Sequence[Place]
    strategy: str

    async def of(self, saver: BaseCheckpointSaver[Any]) -> Any:
        await saver.aprune([place.thread for place in self.places], strategy=self.strategy)


Call = Put | PutWrites | GetTuple | ListThem | History | DeleteThread | Prune


async def answer(call: Call, saver: BaseCheckpointSaver[Any]) -> Any:
    """What the call returns, or the class of what it raises.

    Which of the data errors it is depends on the statement that carries the value, and on who
    refuses first, the client's encoding or the server: they count as one.
    """
    try:
        return plain(await call.of(saver))
    except (psycopg.DataError, UnicodeError):
        return "DataError"
    except Exception as error:
        return type(error).__name__


def plain(value: Any) -> Any:
    """Two of these are equal when the values are, types included, NaN too; order of keys apart."""
    if isinstance(value, Mapping):
        return "mapping", sorted((repr(plain(k)), plain(v)) for k, v in value.items())
    if isinstance(value, BaseModel):
        return type(value).__name__, plain(value.model_dump())
    if isinstance(value, list):
        # A list of a class of its own is a list for its readers.
        return "list", [plain(one) for one in value]
    if isinstance(value, tuple):
        return type(value).__name__, [plain(one) for one in value]
    if isinstance(value, float) and math.isnan(value):
        return "float", "nan"
    return type(value).__name__, repr(value)


_TABLES = {
    "checkpoints": "thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type,"
    " checkpoint::text, metadata::text",
    "checkpoint_blobs": "thread_id, checkpoint_ns, channel, version, type, blob",
    "checkpoint_writes": "thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx,"
    " channel, type, blob",
}


async def all_rows(connection: AsyncConnection[Any]) -> dict[str, list[str]]:
    """All rows of all tables, in an order of their own."""
    found = {}
    for table, columns in _TABLES.items():
        cursor = await connection.execute(f"SELECT {columns} FROM {table}")
        found[table] = sorted(repr(tuple(row)) for row in await cursor.fetchall())
    return found


async def forget_all(connection: AsyncConnection[Any]) -> None:
    for table in _TABLES:
        await connection.execute(f"DELETE FROM {table}")
