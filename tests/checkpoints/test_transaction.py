"""The saver of a change: its connection is somebody else's once the change is over."""

import asyncio

import pytest
from langchain_core.runnables import RunnableConfig

from headrace.checkpoints.serializer import build_serializer
from headrace.checkpoints.transaction import ChangeEnded, TransactionSaver
from tests.support.database import open_pool

CONFIG: RunnableConfig = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}


@pytest.mark.parametrize("rounds", [0, 1, 2, 3, 5, 8])
async def test_what_a_cut_graph_leaves_uses_no_connection_of_others(database_url, rounds):
    async with open_pool(database_url, pool_min=1, pool_max=1) as pool:
        # A change is a transaction.
        async with pool.connection() as connection, connection.transaction():
            saver = TransactionSaver(pool, connection, build_serializer())
            left = [asyncio.ensure_future(saver.aget_tuple(CONFIG)) for _ in range(3)]
            for _ in range(rounds):
                await asyncio.sleep(0)
            await saver.end()
        # The next who has the connection.
        async with pool.connection() as connection:
            for number in range(20):
                cursor = await connection.execute("SELECT %s::int", (number,))
                assert await cursor.fetchone() == (number,)
        results = await asyncio.gather(*left, return_exceptions=True)
        assert all(one is None or isinstance(one, ChangeEnded) for one in results)
        with pytest.raises(ChangeEnded):
            await saver.aget_tuple(CONFIG)
