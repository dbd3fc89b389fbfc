"""What a turn of the built-in graph costs the database as its thread grows."""

import random
import statistics
import string
from itertools import pairwise

import psycopg
import pytest
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from headrace.graphs.messages import SNAPSHOT_FREQUENCY
from tests.support.chat_threads import Thread, compiled
from tests.support.database import open_pool
from tests.support.engine import ENGINES, open_saver

# The log that is measured is the whole server's, other tests' writes included.
pytestmark = pytest.mark.alone

_SENT = """
SELECT
  (SELECT coalesce(sum(octet_length(checkpoint::text) + octet_length(metadata::text)), 0)
     FROM checkpoints)
  + (SELECT coalesce(sum(octet_length(blob)), 0) FROM checkpoint_blobs)
  + (SELECT coalesce(sum(octet_length(blob)), 0) FROM checkpoint_writes),
  pg_current_wal_insert_lsn() - '0/0'
"""


@pytest.fixture(params=ENGINES)
async def saver(request, database_url):
    async with open_pool(database_url) as pool, open_saver(pool, engine=request.param) as opened:
        yield opened


async def costs(thread: Thread, url: str, turns: int) -> list[tuple[int, int]]:
    """The bytes of values and of WAL that each turn with messages of 200 bytes took."""
    letters = random.Random(1)
    readings = []
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for _ in range(turns + 1):
            cursor = await connection.execute(_SENT)
            row = await cursor.fetchone()
            assert row is not None
            readings.append((int(row[0]), int(row[1])))
            await thread.say("".join(letters.choices(string.ascii_lowercase + "   ", k=200)))
    return [
        (sent - sent_before, wal - wal_before)
        for (sent_before, wal_before), (sent, wal) in pairwise(readings)
    ]


def means(turns: list[tuple[int, int]]) -> tuple[float, float]:
    """Of values the mean. Of WAL the median: after a checkpoint of the server the first change of
    each page is written with the whole page, which says nothing about a turn."""
    return statistics.mean(sent for sent, _ in turns), statistics.median(wal for _, wal in turns)


async def test_a_turn_costs_what_is_said_in_it(saver, database_url, record_property):
    thread = Thread(compiled(saver))
    turns = await costs(thread, database_url, 60)
    sent, wal = means(turns[4:14])
    late_sent, late_wal = means(turns[50:60])
    record_property("bytes", (sent, late_sent))
    record_property("wal", (wal, late_wal))
    assert late_sent < 1.1 * sent
    assert late_wal < 1.5 * wal

    # The rest is the whole list now and then; SNAPSHOT_FREQUENCY says how often.
    messages = await thread.messages()
    whole = len(saver.serde.dumps_typed(_DeltaSnapshot(messages))[1]) / len(messages)
    turn = 500
    of_whole_lists = 2 * turn * whole / (SNAPSHOT_FREQUENCY / 2)
    record_property("at_turn_500", (sent + of_whole_lists) / sent)
    assert sent + of_whole_lists <= 2 * sent


async def test_the_release_before_cost_more_with_every_turn(saver, database_url):
    """The reason for the channel: so the bounds above mean something."""
    turns = await costs(Thread(compiled(saver, "previous")), database_url, 60)
    sent, wal = means(turns[4:14])
    late_sent, late_wal = means(turns[50:60])
    assert late_sent > 3 * sent
    assert late_wal > 2 * wal
