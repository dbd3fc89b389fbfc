"""How a run ends: also when what it ends with is hard to store."""

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from headrace.db.engine import build_engine
from headrace.queue.ends import RunEnd
from headrace.queue.queue import Queue
from headrace.worker.end_writer import error_json
from tests.support.database import open_pool
from tests.support.engine import open_writer
from tests.support.runs import register_process, run_request


@pytest.mark.parametrize("message", ["plain", "nul \0", "half a pair \ud800", "", "\udfff\0" * 3])
async def test_a_run_ends_whatever_its_error_says(database_url, message):
    """One that could not be stored would leave the run running and its thread busy for good."""
    with psycopg.connect(database_url, autocommit=True) as database:
        owner, asked = register_process(database), run_request("t")
        async with open_pool(database_url) as pool, open_writer(pool) as writer:
            queue = Queue(pool, writer)
            attempt = await queue.start_run_if_free(asked, owner)
            end = RunEnd("error", "error", error_json(ValueError(message)))
            await queue.end_if_owned(attempt.token, "t", end)
        row = database.execute("SELECT status, error->>'error' FROM threads").fetchone()
    assert row == ("error", "ValueError")


async def test_no_caller_hears_a_statement_or_its_parameters(database_url):
    """Whoever's database it is: what a driver says quotes both."""
    async with open_pool(database_url) as pool:
        engine = build_engine(pool)
        async with engine.connect() as connection:
            with pytest.raises(ProgrammingError) as of_alchemy:
                await connection.execute(text("SELECT a FROM nowhere WHERE b = :b"), {"b": "hush"})
        async with pool.connection() as connection:
            with pytest.raises(psycopg.errors.UndefinedTable) as of_driver:
                await connection.execute("SELECT a FROM nowhere WHERE b = 'hush'")
    for raised in (of_alchemy.value, of_driver.value):
        message = error_json(raised)["message"]
        assert message == 'The database refused it: relation "nowhere" does not exist.'
