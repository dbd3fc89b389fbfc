"""Our revisions and upstream's setup() lay the same tables; three indexes of theirs are dropped."""

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.store.postgres.aio import AsyncPostgresStore

from tests.migrations.catalog import UPSTREAMS_TABLES, set_up_by_upstream, snapshot

#: Each repeats the first column of its table's primary key; a later revision drops them.
_DROPPED = {
    "checkpoints_thread_id_idx",
    "checkpoint_blobs_thread_id_idx",
    "checkpoint_writes_thread_id_idx",
}


async def test_our_tables_of_langgraph_are_those_of_upstreams_setup(
    database_url, empty_database_url
):
    await set_up_by_upstream(empty_database_url)
    theirs = snapshot(empty_database_url)
    assert [row[0] for row in theirs["tables"]] == list(UPSTREAMS_TABLES)
    dropped = [row for row in theirs["indexes"] if row[1] in _DROPPED]
    assert len(dropped) == len(_DROPPED)
    theirs["indexes"] = [row for row in theirs["indexes"] if row not in dropped]
    assert snapshot(database_url, UPSTREAMS_TABLES) == theirs


async def test_upstreams_setup_changes_nothing_on_our_schema(database_url):
    before = snapshot(database_url)
    await set_up_by_upstream(database_url)
    assert snapshot(database_url) == before


def test_revision_0001_knows_all_of_upstreams_saver_migrations():
    assert len(AsyncPostgresSaver.MIGRATIONS) == 10, (
        "AsyncPostgresSaver.MIGRATIONS is not what revision 0001_langgraph_checkpoints lays;"
        " lay and record the new ones in a revision of their own, then correct this count"
    )


def test_revision_0002_knows_all_of_upstreams_store_migrations():
    assert len(AsyncPostgresStore.MIGRATIONS) == 4, (
        "AsyncPostgresStore.MIGRATIONS is not what revision 0002_langgraph_store lays;"
        " lay and record the new ones in a revision of their own, then correct this count"
    )
