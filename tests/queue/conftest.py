"""A queue on a database of its own."""

import pytest

from headrace.queue.queue import Queue
from tests.support.database import open_pool
from tests.support.engine import open_writer


@pytest.fixture
async def pool(database_url):
    async with open_pool(database_url, pool_max=8) as opened:
        yield opened


@pytest.fixture
async def queue(pool):
    async with open_writer(pool) as writer:
        yield Queue(pool, writer)
