"""The length of the queue, told by one process."""

import psycopg

from headrace.observability.slots import StatusBoard
from headrace.queue.queue import Queue
from headrace.worker.queue_depth import QueueDepth
from tests.support.database import open_pool
from tests.support.engine import open_writer
from tests.support.runs import register_process, run_request


async def test_it_counts_what_waits_and_for_how_long(database_url):
    async with open_pool(database_url) as pool, open_writer(pool) as writer:
        queue = Queue(pool, writer)
        depth = QueueDepth(queue, StatusBoard(None, stale_seconds=5.0))
        await depth.measure()
        assert depth.figures is not None
        assert (depth.figures.pending, depth.figures.oldest_ready_seconds) == (0, 0)
        with psycopg.connect(database_url, autocommit=True) as database:
            await queue.start_run_if_free(run_request("busy"), register_process(database))
            await queue.enqueue(run_request("busy"))
            await queue.enqueue(run_request("free"))
            database.execute(
                "UPDATE threads SET ready_at = now() - interval '1 minute' WHERE"
                " ready_at IS NOT NULL"
            )
        await depth.measure()
        assert depth.figures.pending == 2
        assert 60 <= depth.figures.oldest_ready_seconds < 90


async def test_it_counts_messages_of_webhooks_that_should_have_been_sent(database_url, database):
    async with open_pool(database_url) as pool, open_writer(pool) as writer:
        depth = QueueDepth(Queue(pool, writer), StatusBoard(None, stale_seconds=5.0))
        database.execute(
            "INSERT INTO webhook_deliveries (run_id, thread_id, url, state, run, due_at)"
            " SELECT gen_random_uuid(), 't', 'https://h.example', state, '{}', now() + late"
            " FROM (VALUES ('due', interval '-70 s'), ('due', '-10 s'), ('due', '30 s'),"
            " ('sent', '-90 s'), ('dead', '-90 s')) AS given (state, late)"
        )
        await depth.measure()
        assert depth.figures is not None
        assert depth.figures.webhooks_overdue == 2
        assert 70 <= depth.figures.oldest_webhook_overdue_seconds < 90
