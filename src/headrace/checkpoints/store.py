"""The store every graph of a process is compiled with: upstream's, on the shared pool, timed."""

from collections.abc import Iterable

from langgraph.store.base import Op, Result
from langgraph.store.postgres.aio import AsyncPostgresStore

from headrace.checkpoints.timing import Observe, timed
from headrace.checkpoints.upstream import stop_store
from headrace.db.pool import SharedPool


class Store(AsyncPostgresStore):
    """One per process; needs a running event loop. What one turn of it asks is one batch."""

    __slots__ = ("observe",)

    def __init__(self, pool: SharedPool, *, observe: Observe) -> None:
        super().__init__(pool)
        self.observe = observe

    @timed("batch")
    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        return await super().abatch(ops)

    async def close(self) -> None:
        await stop_store(self)
