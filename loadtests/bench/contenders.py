"""Who is measured: savers as their users open them, and what surrounds a run on each."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool
from pydantic import SecretStr

from headrace.checkpointer_settings import CheckpointerSettings
from headrace.checkpoints.channel_memory import ChannelMemory
from headrace.checkpoints.saver import GroupCommitSaver
from headrace.checkpoints.serializer import build_serializer
from headrace.checkpoints.writer import Writer
from headrace.database_settings import DatabaseSettings
from headrace.db.logins import login_of
from headrace.db.pool_builder import build_pool
from headrace.db.probe import probe

#: Connections of every contender that has a pool.
POOL = 10


@dataclass(frozen=True)
class Contender:
    """An open saver. ``run`` surrounds one run, and is left when all it wrote is committed."""

    saver: BaseCheckpointSaver[Any] | None
    run: Callable[[], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Entrant:
    """A contender before it is opened, which takes the URL of a migrated database.

    ``durable`` is False for what keeps nothing there: the database is then none of its costs.
    """

    open: Callable[[str], AbstractAsyncContextManager[Contender]]
    durable: bool = True


@asynccontextmanager
async def nothing_around() -> AsyncIterator[None]:
    """LangGraph itself waits for the writes of a run before the run returns."""
    yield


@asynccontextmanager
async def tutorial(url: str) -> AsyncIterator[Contender]:
    """Upstream's saver as the tutorial opens it: on one connection."""
    async with AsyncPostgresSaver.from_conn_string(url) as saver:
        yield Contender(saver, nothing_around)


@asynccontextmanager
async def upstream_pool(url: str) -> AsyncIterator[Contender]:
    """Upstream's saver on a pool, with the arguments its documentation asks for."""
    kwargs = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    made: AsyncConnectionPool[Any] = AsyncConnectionPool(
        url, min_size=POOL, max_size=POOL, open=False, kwargs=kwargs
    )
    async with made as pool:
        await pool.wait()
        yield Contender(AsyncPostgresSaver(pool), nothing_around)


def headrace(**settings: Any) -> Entrant:
    """Ours, as a server process opens it; ``settings`` are of its group ``checkpointer``."""

    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Contender]:
        database = DatabaseSettings(url=SecretStr(url), pool_min=POOL, pool_max=POOL)
        facts = await probe(login_of(database))
        pool = build_pool(database, behind_pooler=facts.behind_pooler)
        await pool.open(wait=True)
        checkpointer = CheckpointerSettings(**settings)
        writer = Writer(pool, checkpointer)
        saver = GroupCommitSaver(
            pool,
            writer,
            observe=lambda operation, seconds: None,
            channel_memory=ChannelMemory(
                checkpointer.channel_memory_bytes, checkpointer.channel_memory_seconds
            ),
        )
        saver.serde = build_serializer()

        @asynccontextmanager
        async def run() -> AsyncIterator[None]:
            with saver.run(durability="async") as writes:
                yield
                await writes.committed()

        try:
            yield Contender(saver, run)
        finally:
            await saver.stop()
            await writer.stop()
            await pool.close()

    return Entrant(opened)


@asynccontextmanager
async def memory(url: str) -> AsyncIterator[Contender]:
    """LangGraph's saver that keeps checkpoints in the process: nothing survives it."""
    yield Contender(InMemorySaver(), nothing_around)


@asynccontextmanager
async def none(url: str) -> AsyncIterator[Contender]:
    """No saver: what LangGraph itself costs."""
    yield Contender(None, nothing_around)


CONTENDERS: Mapping[str, Entrant] = {
    "tutorial": Entrant(tutorial),
    "upstream_pool": Entrant(upstream_pool),
    "headrace": headrace(),
    "memory": Entrant(memory, durable=False),
    "none": Entrant(none, durable=False),
}
