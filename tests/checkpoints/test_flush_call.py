"""The call of the function that does a whole flush."""

from itertools import permutations

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from headrace.checkpointer_settings import CheckpointerSettings
from headrace.checkpoints.flush import Flusher
from headrace.checkpoints.rows import checkpoint_rows
from headrace.checkpoints.stray_sweeper import Strays
from headrace.db.held_connection import HeldConnection
from headrace.events.event import Event
from headrace.events.log import StoreEvents
from headrace.queue.ends import End
from headrace.queue.starts import Start
from tests.support.chains import CHANNEL, checkpoint_of, config_of, identity
from tests.support.database import open_pool
from tests.support.runs import DONE, insert_running_run, register_process, run_request


def checkpoint(thread_id, number):
    return checkpoint_rows(
        JsonPlusSerializer(),
        None,
        config_of(thread_id, number - 1),
        checkpoint_of(number, ["v"]),
        {"step": number},
        {CHANNEL: identity(number)},
    )


async def test_one_statement_serves_all_orders_in_which_operations_came(database_url, database):
    """A connection keeps what it has prepared for as long as it lives."""
    token = insert_running_run(database, register_process(database), "t")
    flusher = Flusher(CheckpointerSettings(), Strays())
    async with open_pool(database_url, pool_min=1, pool_max=1) as pool:
        held = HeldConnection(pool, timeout_seconds=5)
        for number, order in enumerate(permutations(range(4)), 1):
            batch = [
                checkpoint("t", number),
                StoreEvents("t", token, [Event.of(number, "values", {}, resumable=True)]),
                End(token, "t", DONE),
                Start(run_request("u"), token.process_id),
            ]
            await flusher.flush([batch[place] for place in order], held)
        cursor = await (await held.take()).execute(
            "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%headrace_flush_2%'"
        )
        assert await cursor.fetchone() == (1,)
        await held.give_back()
