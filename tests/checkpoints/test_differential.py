"""Whatever is asked of them, our savers answer as upstream's does, and leave the same rows.

``DIFFERENTIAL_EXAMPLES`` sets how many sequences are tried.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack

import psycopg
import pytest
from hypothesis import HealthCheck, event, given, settings
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from tests.support.database import open_pool
from tests.support.engine import ENGINES, open_saver
from tests.support.saver_calls import Call, all_rows, answer, forget_all
from tests.support.saver_steps import sequences

_EXAMPLES = int(os.environ.get("DIFFERENTIAL_EXAMPLES", "60"))


class Pair:
    """A saver of ours in one database, and upstream's on a connection of its own in another."""

    async def open(self, stack: AsyncExitStack, engine: str, urls: tuple[str, str]) -> None:
        pool = await stack.enter_async_context(open_pool(urls[0]))
        self.ours = await stack.enter_async_context(open_saver(pool, engine=engine))
        self.upstreams = await stack.enter_async_context(
            AsyncPostgresSaver.from_conn_string(urls[1])
        )
        self._databases = [
            await stack.enter_async_context(
                await psycopg.AsyncConnection.connect(url, autocommit=True)
            )
            for url in urls
        ]

    async def play(self, steps: list[list[Call]]) -> None:
        for database in self._databases:
            await forget_all(database)
        for calls in steps:
            expected = [await answer(call, self.upstreams) for call in calls]
            for one in expected:
                event(one if isinstance(one, str) else "answers")
            # At the same time, for ours may put them together.
            assert await asyncio.gather(*[answer(call, self.ours) for call in calls]) == expected
        ours, upstreams = [await all_rows(database) for database in self._databases]
        assert ours == upstreams


@pytest.fixture(params=ENGINES)
def pair(
    request: pytest.FixtureRequest, database_url: str, second_database_url: str
) -> Iterator[tuple[asyncio.Runner, Pair]]:
    """With the loop that both savers belong to."""
    found, stack = Pair(), AsyncExitStack()
    with asyncio.Runner() as runner:
        runner.run(found.open(stack, request.param, (database_url, second_database_url)))
        try:
            yield runner, found
        finally:
            runner.run(stack.aclose())


@pytest.mark.timeout(120 + 5 * _EXAMPLES)
def test_the_same_calls_have_the_same_answers_and_leave_the_same_rows(pair):
    runner, savers = pair

    @settings(
        max_examples=_EXAMPLES,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(sequences())
    def check(steps: list[list[Call]]) -> None:
        runner.run(savers.play(steps))

    check()
