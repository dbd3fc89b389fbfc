"""Threads that were there before lists were indexed are found by them, written by any release."""

import psycopg

from headrace.db.migrate import drift, upgrade
from tests.support.database import database_settings

_AS_BEFORE = """
DROP TRIGGER threads_listed_insert ON threads;
DROP TRIGGER threads_listed_status ON threads;
DROP TRIGGER threads_listed_metadata ON threads;
ALTER TABLE threads DROP COLUMN halted_status, DROP COLUMN graph_id, DROP COLUMN assistant_id,
  DROP COLUMN ttl_minutes, DROP COLUMN ttl_strategy, DROP COLUMN sweep_at, DROP COLUMN pruned_at;
DROP INDEX threads_metadata_idx;
DROP TABLE crons, webhook_deliveries, store_index, store_index_paths, api_keys;
UPDATE headrace_alembic_version SET version_num = '0006';
INSERT INTO threads (thread_id, status, metadata)
SELECT status || n, status, jsonb_build_object('graph_id', 'g', 'assistant_id', n::text)
FROM unnest(ARRAY['idle', 'busy', 'error', 'interrupted']) AS status, generate_series(1, 3) AS n;
"""


def listed(database):
    return database.execute(
        "SELECT thread_id, halted_status, graph_id, assistant_id FROM threads ORDER BY thread_id"
    ).fetchall()


def test_threads_of_before_are_listed_too(database_url):
    with psycopg.connect(database_url, autocommit=True) as database:
        for statement in filter(str.strip, _AS_BEFORE.split(";")):
            database.execute(statement)
        upgrade(database_settings(database_url))
        assert listed(database) == [
            (f"{status}{n}", status if status in ("error", "interrupted") else None, "g", str(n))
            for status in ("busy", "error", "idle", "interrupted")
            for n in (1, 2, 3)
        ]
        # As the release before writes rows, which knows none of the columns.
        database.execute("DELETE FROM threads WHERE thread_id !~ '1$'")
        database.execute("UPDATE threads SET status = 'busy' WHERE thread_id = 'error1'")
        database.execute("UPDATE threads SET status = 'error' WHERE thread_id = 'idle1'")
        database.execute(
            'UPDATE threads SET metadata = metadata || \'{"graph_id": "h"}\''
            " WHERE thread_id = 'busy1'"
        )
        assert listed(database) == [
            ("busy1", None, "h", "1"),
            ("error1", None, "g", "1"),
            ("idle1", "error", "g", "1"),
            ("interrupted1", "interrupted", "g", "1"),
        ]
    assert drift(database_settings(database_url)) is None
