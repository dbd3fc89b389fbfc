"""The checkpoints of a run as rows, also rows that another program has written."""

import json
import random
from typing import Any

from headrace.checkpoints.run_checkpoints import RunCheckpoints, read_checkpoints
from headrace.ids import uuid7
from tests.support.database import open_pool

RUN = uuid7()


def store(database: Any, checkpoint_id: str, parent: str | None = None, **more: Any) -> None:
    metadata = {"run_id": str(RUN), "step": 1, "source": "loop", **more.pop("metadata", {})}
    database.execute(
        "INSERT INTO checkpoints"
        " (thread_id, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)"
        " VALUES ('t', %s, %s, %s, %s)",
        (checkpoint_id, parent, json.dumps(more.pop("checkpoint", {})), json.dumps(metadata)),
    )


async def checkpoints(
    url: str, *, limit: int = 10, offset: int = 0, only_last: bool = False
) -> RunCheckpoints:
    async with open_pool(url) as pool, pool.connection() as connection:
        return await read_checkpoints(
            connection,
            thread_id="t",
            run_id=RUN,
            attempts=[],
            limit=limit,
            offset=offset,
            only_last=only_last,
        )


async def test_a_run_without_checkpoints(database_url):
    found = await checkpoints(database_url)
    assert (found.count, found.bytes, found.longest, found.older_deleted) == (0, 0, None, False)
    assert found.page == []


async def test_an_id_without_a_time_and_odd_metadata_are_no_error(database_url, database):
    store(database, "by hand", metadata={"step": "first", "run_attempt": "x"})
    (step,) = (await checkpoints(database_url)).page
    assert (step.created_at, step.seconds, step.step, step.attempt) == (None, None, None, None)


async def test_a_very_large_checkpoint_is_not_read(database_url, database):
    # Postgres cannot compress this to less.
    noise = random.Random(1).randbytes(100_000).hex()
    store(database, "a", metadata={"step": -1}, checkpoint={"versions_seen": {"n": {"c": "1"}}})
    checkpoint = {"channel_values": {"c": noise}, "versions_seen": {"m": {"c": "1"}}}
    store(database, "b", "a", checkpoint={**checkpoint, "channel_versions": {"c": "1"}})
    first, large = (await checkpoints(database_url)).page
    assert (first.nodes, first.blob_bytes) == (["n"], 0)
    assert (large.nodes, large.blob_bytes) == ((), None)
    assert large.bytes > 64 * 1024


async def test_missing_first_checkpoints_are_noticed(database_url, database):
    store(database, "b", None)
    assert (await checkpoints(database_url)).older_deleted
    # A run that stores once, at its end, begins like this.
    assert not (await checkpoints(database_url, only_last=True)).older_deleted
    database.execute("UPDATE checkpoints SET parent_checkpoint_id = 'gone'")
    assert (await checkpoints(database_url)).older_deleted
    store(database, "gone", metadata={"run_id": str(uuid7())})
    assert not (await checkpoints(database_url)).older_deleted


async def test_pages_count_from_the_newest(database_url, database):
    for name in "abcde":
        store(database, name)
    assert [one.checkpoint_id for one in (await checkpoints(database_url, limit=2)).page] == [
        "d",
        "e",
    ]
    page = (await checkpoints(database_url, limit=2, offset=4)).page
    assert [one.checkpoint_id for one in page] == ["a"]
    assert (await checkpoints(database_url, limit=2, offset=9)).count == 5
