"""How a run ends: also when what it ends with is hard to store."""

import psycopg
import pytest

from headrace.runs.queue import Queue
from headrace.runs.transitions import RunEnd
from headrace.worker.ending import error_json
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
            await queue.start_if_thread_free(asked, owner)
            await queue.end_if_owned(
                run_id=asked.run_id,
                thread_id="t",
                attempt=1,
                process_id=owner,
                end=RunEnd("error", "error", error_json(ValueError(message))),
            )
        row = database.execute("SELECT status, error->>'error' FROM threads").fetchone()
    assert row == ("error", "ValueError")
