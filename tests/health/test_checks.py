"""The probe's verdict: slow to condemn, quick to forgive, never waiting."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import structlog

from headrace.health.checks import DatabaseCheck, DatabaseProbe
from headrace.lifecycle import Supervision
from headrace.unavailable_errors import DatabaseUnavailable, PoolExhausted
from tests.support.database import PrivatePostgres, open_pool
from tests.support.waiting import eventually

LOST = "the database does not answer"


class Script(DatabaseCheck):
    """A check that ends as it is told, and tells when it is asked again."""

    def __init__(self) -> None:
        self.asked = 0
        self._outcomes: asyncio.Queue[Exception | None] = asyncio.Queue()

    async def ask(self) -> None:
        self.asked += 1
        if outcome := await self._outcomes.get():
            raise outcome

    async def play(self, *outcomes: Exception | None) -> None:
        """Return when the probe has drawn its conclusion from the last one."""
        await eventually(lambda: self.asked > 0)
        expected = self.asked + len(outcomes)
        for outcome in outcomes:
            self._outcomes.put_nowait(outcome)
        await eventually(lambda: self.asked == expected)


@asynccontextmanager
async def probing(
    check: DatabaseCheck, *, timeout_seconds: float = 30.0
) -> AsyncIterator[DatabaseProbe]:
    probe = DatabaseProbe(check, interval_seconds=0.001, timeout_seconds=timeout_seconds)
    await probe.start()
    try:
        yield probe
    finally:
        await probe.stop()


async def test_a_success_is_no_problem() -> None:
    script = Script()
    async with probing(script) as probe:
        await script.play(None, None)
        assert probe.problem is None


@pytest.mark.parametrize("failure", [DatabaseUnavailable(), OSError("gone"), TimeoutError()])
async def test_one_failure_is_nothing_and_two_are_the_database(failure: Exception) -> None:
    script = Script()
    async with probing(script) as probe:
        await script.play(None, failure)
        assert probe.problem is None
        await script.play(failure)
        assert probe.problem is not None
        assert probe.problem.startswith(LOST)


async def test_failures_that_do_not_follow_each_other_are_nothing() -> None:
    script = Script()
    async with probing(script) as probe:
        await script.play(OSError("gone"), None, OSError("gone"), None, OSError("gone"))
        assert probe.problem is None


async def test_recovery_shows_at_once() -> None:
    script = Script()
    async with probing(script) as probe:
        await script.play(*[OSError("gone")] * 5)
        assert probe.problem == f"{LOST}: gone"
        await script.play(None)
        assert probe.problem is None


async def test_loss_and_recovery_are_logged_once() -> None:
    script = Script()
    with structlog.testing.capture_logs() as lines:
        async with probing(script):
            await script.play(*[OSError("gone")] * 5, None, None)
    assert [line["event"] for line in lines] == ["database_lost", "database_found"]


async def test_an_exhausted_pool_leaves_the_verdict_alone() -> None:
    script = Script()
    async with probing(script) as probe:
        await script.play(None, *[PoolExhausted()] * 5)
        assert probe.problem is None
        await script.play(OSError("gone"), PoolExhausted(), OSError("gone"))
        assert probe.problem == f"{LOST}: gone"
        await script.play(PoolExhausted())
        assert probe.problem == f"{LOST}: gone"


async def test_a_check_that_exceeds_its_time_has_failed() -> None:
    script = Script()
    async with probing(script, timeout_seconds=0.02) as probe:
        await eventually(lambda: probe.problem == LOST)
        assert script.asked >= 2


async def test_a_check_that_hangs_beyond_its_time_counts_as_silence() -> None:
    released = asyncio.Event()

    class Frozen(Script):
        async def ask(self) -> None:
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    continue

    async with probing(Frozen(), timeout_seconds=0.05) as probe:
        assert probe.problem is None
        await eventually(lambda: probe.problem == LOST)
        released.set()
        await eventually(lambda: probe.problem is None)


async def test_a_probe_that_ends_is_reported_and_counts_as_silence() -> None:
    reported: list[str] = []

    class Broken(Script):
        async def ask(self) -> None:
            raise ZeroDivisionError

    probe = DatabaseProbe(
        Broken(),
        interval_seconds=0.001,
        timeout_seconds=0.02,
        supervision=Supervision(lambda name, _: reported.append(name)),
    )
    await probe.start()
    await eventually(lambda: "database-probe" in reported)
    await eventually(lambda: probe.problem == LOST)
    await probe.stop()


async def test_a_pool_that_is_fully_in_use_is_not_unready(database_url: str) -> None:
    async with open_pool(database_url, pool_min=1, pool_max=2) as pool:
        check = DatabaseCheck(pool, timeout_seconds=0.05)
        rounds = 0

        class Counted(DatabaseCheck):
            async def ask(self) -> None:
                nonlocal rounds
                rounds += 1
                await super().ask()

        async with pool.connection(), pool.connection():
            with pytest.raises(PoolExhausted):
                await check.ask()
            async with probing(Counted(pool, timeout_seconds=0.05)) as probe:
                await eventually(lambda: rounds > 5)
                assert probe.problem is None
                assert pool.figures().waiting == 0
        await check.ask()


async def test_a_pool_with_a_connection_left_asks_the_database(database_url: str) -> None:
    async with open_pool(database_url, pool_min=1, pool_max=2) as pool:
        async with pool.connection():
            await DatabaseCheck(pool).ask()
        assert pool.figures().in_use == 0


async def test_a_database_that_stops_and_returns(private_postgres: PrivatePostgres) -> None:
    async with (
        open_pool(private_postgres.url, pool_min=1, pool_max=2) as pool,
        probing(DatabaseCheck(pool, timeout_seconds=0.2), timeout_seconds=0.3) as probe,
    ):
        assert probe.problem is None
        await asyncio.to_thread(private_postgres.stop)
        await eventually(lambda: probe.problem == f"{LOST}: Connection refused")
        await asyncio.to_thread(private_postgres.start)
        await eventually(lambda: probe.problem is None, seconds=20)
