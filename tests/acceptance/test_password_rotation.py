"""The database's password or token changes under load: no request fails, whichever side changes
first.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from headrace.lifecycle import Tasks
from tests.acceptance.test_database_faults import Answer, load, until_answers
from tests.support.live import live_server
from tests.support.metadata_service import metadata_service
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.alone]

LIFETIME_SECONDS = 1
#: Connections are replaced all the time.
SETTINGS: dict[str, Any] = {
    "HEADRACE_DATABASE__MAX_LIFETIME_SECONDS": str(LIFETIME_SECONDS),
    "HEADRACE_DATABASE__POOL_MIN": "3",
    "HEADRACE_DATABASE__POOL_MAX": "6",
}


def born_after(url: str, moment: str) -> int:
    """Sessions of the server's role that began after that time."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE usename = 'app' AND backend_start > %s::timestamptz",
            (moment,),
        ).fetchone()
    assert row is not None
    return int(row[0])


def now(url: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT clock_timestamp()::text").fetchone()
    assert row is not None
    return str(row[0])


async def test_no_request_fails_while_the_password_changes(tmp_path, guarded_postgres):
    file = tmp_path / "password"
    file.write_text("one-s3cret\n")
    guarded_postgres.set_password("one-s3cret")
    environment = SETTINGS | {"HEADRACE_DATABASE__PASSWORD_FILE": str(file)}
    with live_server(tmp_path, guarded_postgres.url, **environment) as server:
        answers: list[Answer] = []
        tasks = Tasks()
        tasks.start(load(server.url, answers), name="load")

        def problems() -> set[str]:
            said = {one["login_problem"] for one in server.report()["processes"]}
            return {one for one in said if one}

        async def working(condition: Callable[[], bool], *, seconds: float = 30) -> None:
            """Until it is true; meanwhile requests are answered."""
            async with asyncio.timeout(seconds):
                while not condition():
                    await until_answers(answers, len(answers) + 5)

        await until_answers(answers, 5)
        # The role first: until the file follows, no new connection can be made.
        guarded_postgres.set_password("two-s3cret")
        refused = {"the database has refused the last login by database.password_file"}
        await working(lambda: problems() == refused)
        refused_at = time.monotonic()
        # The connections that are there outlive their time.
        await working(lambda: time.monotonic() - refused_at > 3 * LIFETIME_SECONDS)
        assert problems() == refused
        assert {server.status("/readyz") for _ in range(4)} == {200}
        file.write_text("two-s3cret\n")
        changed = now(guarded_postgres.trusted_url)
        await working(lambda: not problems())
        await working(lambda: born_after(guarded_postgres.trusted_url, changed) >= 4)
        # The file first: the password before it serves.
        file.write_text("three-s3cret\n")
        await working(lambda: any("the one before it still works" in one for one in problems()))
        guarded_postgres.set_password("three-s3cret")
        changed = now(guarded_postgres.trusted_url)
        await working(lambda: not problems())
        await working(lambda: born_after(guarded_postgres.trusted_url, changed) >= 4)
        await tasks.stop()
        assert [one.what for one in answers if not one.ok] == []
        # Lease and listener have kept their connections. They get new ones, too.
        assert guarded_postgres.cut_sessions() >= 8
        wait_until(lambda: listening(guarded_postgres.trusted_url) == 2, seconds=20)
        wait_until(lambda: server.status("/readyz") == 200, seconds=20)
        assert "s3cret" not in server.log()
        print(f"{len(answers)} requests")


async def test_no_request_fails_while_tokens_of_a_cloud_change(tmp_path, guarded_postgres):
    """google-auth keeps a token for an hour. It is refused long before, and made anew."""
    with metadata_service() as told:
        environment = SETTINGS | {
            "HEADRACE_DATABASE__LOGIN": "cloud_sql",
            "GCE_METADATA_HOST": told.url,
            "GCE_METADATA_ROOT": told.url,
            "GCE_METADATA_IP": told.url,
            "CLOUDSDK_CONFIG": str(tmp_path),
        }
        guarded_postgres.set_password(told.token)
        with live_server(tmp_path, guarded_postgres.url, **environment) as server:
            answers: list[Answer] = []
            tasks = Tasks()
            tasks.start(load(server.url, answers), name="load")
            await until_answers(answers, 5)
            # At first the service still gives what the database refuses.
            for token, answers_between in (("two-t0ken", 10), ("three-t0ken", 0)):
                asked = len(told.asked)
                guarded_postgres.set_password(token)
                await until_answers(answers, len(answers) + answers_between)
                told.token = token
                changed = now(guarded_postgres.trusted_url)
                async with asyncio.timeout(20):
                    while born_after(guarded_postgres.trusted_url, changed) < 2:
                        await until_answers(answers, len(answers) + 2)
                assert len(told.asked) > asked
            await tasks.stop()
            assert [one.what for one in answers if not one.ok] == []
            wait_until(lambda: not any(map(_problem, server.report()["processes"])), seconds=20)
            assert server.status("/readyz") == 200
            assert "t0ken" not in server.log()
            print(f"{len(answers)} requests")


def _problem(process: dict[str, Any]) -> Any:
    return process["login_problem"]


def listening(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE usename = 'app' AND query = 'LISTEN headrace'"
        ).fetchone()
    assert row is not None
    return int(row[0])
