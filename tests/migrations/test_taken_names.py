"""Names that headrace needs and another application has: refused before anything is changed."""

import psycopg
import pytest
from alembic.script import ScriptDirectory

from headrace.db.migrate import drift, upgrade
from headrace.db.schema import known_revisions, scripts_folder, state
from headrace.db.table_schema import RevisionNames
from headrace.errors import StartupRefusal
from tests.migrations.catalog import set_up_by_upstream, snapshot
from tests.migrations.commands import run_headrace
from tests.support.database import database_settings

HEAD = known_revisions()[-1]

_TRIGGER = "RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"

#: What an application may have, by what the refusal calls it.
TAKEN = {
    "table threads": "CREATE TABLE threads (id bigint PRIMARY KEY, title text)",
    "table runs": "CREATE TABLE runs (id bigint PRIMARY KEY, distance numeric)",
    "table processes": "CREATE TABLE processes (process_id text)",
    "table assistants": 'CREATE TABLE assistants (assistant_id uuid, "Name" text)',
    # Names of later revisions: the earlier ones are there already.
    "table assistant_versions": "CREATE TABLE assistant_versions (n int)",
    "table run_events": "CREATE TABLE run_events (run_id uuid, event_id bigint, distance text)",
    "table schema_compat": "CREATE TABLE schema_compat (app text)",
    # LangGraph's names, other columns.
    "table store": "CREATE TABLE store (id serial PRIMARY KEY, name text, city text)",
    "table checkpoints": "CREATE TABLE checkpoints (id serial PRIMARY KEY, weights bytea)",
    "table checkpoint_blobs": "CREATE TABLE checkpoint_blobs (thread_id text, blob oid)",
    "table store_migrations": "CREATE TABLE store_migrations (v text)",
    "view runs": "CREATE VIEW runs AS SELECT 1 AS run_id",
    "materialized view processes": "CREATE MATERIALIZED VIEW processes AS SELECT 1 AS pid",
    "sequence run_events": "CREATE SEQUENCE run_events",
    "type assistants": "CREATE TYPE assistants AS ENUM ('ada')",
    "type idempotency_keys": "CREATE TYPE idempotency_keys AS (key text)",
    "type threads": "CREATE DOMAIN threads AS text",
    # What ALTER TABLE threads RENAME leaves behind.
    "index threads_pkey": "CREATE TABLE old_threads (id int CONSTRAINT threads_pkey PRIMARY KEY)",
    "index store_prefix_idx": "CREATE TABLE t (p text); CREATE INDEX store_prefix_idx ON t (p)",
    "index threads_temporary_idx": "CREATE TABLE threads_temporary_idx_of (x int);"
    " CREATE INDEX threads_temporary_idx ON threads_temporary_idx_of (x)",
    "function threads_set_listed": f"CREATE FUNCTION threads_set_listed() {_TRIGGER}",
}

_FUNCTIONS = "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
_TYPES = "SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace ORDER BY 1"


def everything(url: str) -> list:
    with psycopg.connect(url) as connection:
        functions, types = connection.execute(_FUNCTIONS), connection.execute(_TYPES)
        return [snapshot(url), functions.fetchall(), types.fetchall()]


@pytest.mark.parametrize("what", TAKEN)
def test_a_taken_name_is_refused_before_anything_is_changed(what, empty_database_url):
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(TAKEN[what].encode())
    before = everything(empty_database_url)
    with pytest.raises(
        StartupRefusal, match=rf"HR317 schema public: .*\b{what}\b.*SCHEMA="
    ) as told:
        upgrade(database_settings(empty_database_url))
    assert "Nothing was changed" in told.value.message
    assert everything(empty_database_url) == before


def test_a_schema_of_its_own_is_the_way_out_that_the_refusal_names(empty_database_url):
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        for name in ("table threads", "view runs", "table store", "type assistants"):
            connection.execute(TAKEN[name].encode())
        connection.execute(TAKEN["function threads_set_listed"].encode())
    before = everything(empty_database_url)
    settings = database_settings(empty_database_url, schema="headrace")
    assert upgrade(settings) == upgrade(settings) == HEAD
    assert everything(empty_database_url) == before
    assert drift(settings) is None


def test_the_command_says_it_in_a_sentence(empty_database_url):
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE threads (id int); CREATE TABLE schema_compat (v int)")
    answer = run_headrace("db", "upgrade", database_url=empty_database_url)
    assert answer.returncode == 1
    assert answer.stderr.startswith(
        "HR317 schema public: it has table schema_compat, table threads"
    )
    assert "Traceback" not in answer.stderr
    assert state(database_settings(empty_database_url)).current is None


def test_what_an_old_failed_upgrade_left_is_told_apart(empty_database_url):
    """LangGraph's tables were laid and recorded, then the user's threads stood in the way."""
    settings = database_settings(empty_database_url)
    upgrade(settings)
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(
            "DROP TABLE crons, runs, threads, assistant_versions, assistants, processes,"
            " webhook_deliveries, store_index, store_index_paths, api_keys"
        )
        connection.execute("DROP TABLE run_events, idempotency_keys, schema_compat")
        connection.execute("DROP FUNCTION threads_set_listed")
        connection.execute("UPDATE headrace_alembic_version SET version_num = '0002'")
        connection.execute("CREATE TABLE threads (id bigint PRIMARY KEY)")
        with pytest.raises(StartupRefusal, match=r"HR317 .* table threads"):
            upgrade(settings)
        assert state(settings).current == "0002"
        connection.execute("ALTER TABLE threads RENAME TO posts")
        with pytest.raises(StartupRefusal, match=r"HR317 .* index threads_pkey"):
            upgrade(settings)
        connection.execute("ALTER INDEX threads_pkey RENAME TO posts_pkey")
    assert upgrade(settings) == HEAD
    assert drift(settings) is None


def test_tables_of_headrace_without_their_version_are_named_as_such(database_url):
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DROP TABLE headrace_alembic_version")
    with pytest.raises(StartupRefusal, match=r"HR317 .* has headrace's .* Restore that table"):
        upgrade(database_settings(database_url))


async def test_langgraphs_tables_beside_a_taken_name_stay_as_they_are(empty_database_url):
    await set_up_by_upstream(empty_database_url)
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE threads (id int)")
    before = everything(empty_database_url)
    answer = run_headrace("db", "upgrade", database_url=empty_database_url)
    assert "HR317 schema public: it has table threads of another" in answer.stderr
    assert everything(empty_database_url) == before


_NAMES = """
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
"""


def test_each_revision_says_what_it_lays(empty_database_url, monkeypatch):
    """And nothing else: a new revision that lays something has to name it."""
    folder = str(scripts_folder())
    revisions = list(ScriptDirectory(folder).walk_revisions())[::-1]
    said = {one.revision: getattr(one.module, "names", RevisionNames()) for one in revisions}
    known = {"headrace_alembic_version", "headrace_alembic_version_pkc"}
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        for revision in revisions:
            monkeypatch.setattr("headrace.db.migrate.HEAD", revision.revision)
            upgrade(database_settings(empty_database_url))
            found = {row[0] for row in connection.execute(_NAMES)} - known
            names = said[revision.revision]
            assert found == {*names.tables, *names.indexes, *names.functions}, revision.revision
            known |= found
