"""The functions of the schema: those of this release, or a sentence that says which are not."""

import asyncio

import psycopg
import pytest

from headrace.db.functions import definitions_in, function_definitions
from headrace.db.migrate import drift, upgrade
from headrace.db.schema import ensure_compatible
from headrace.db.triggers import triggers
from headrace.errors import StartupRefusal
from tests.support.database import database_settings, open_pool

FLUSH = "headrace_flush_2"


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as database:
        database.execute(statement.encode())


def start(url: str) -> None:
    """What a server does first."""

    async def check() -> None:
        async with open_pool(url) as pool:
            await ensure_compatible(pool)

    asyncio.run(check())


def test_a_migrated_database_has_the_functions_of_the_files(database_url):
    with psycopg.connect(database_url) as database:
        found = database.execute(
            "SELECT proname, prosrc, provolatile, proconfig FROM pg_proc"
            " WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'headrace%'"
        ).fetchall()
    sources = {name: text.split("$$")[1] for name, text in definitions_in("public").items()}
    present = {name: source for name, source, _, _ in found}
    assert {name: present[name] for name in sources} == sources
    # The release before this one calls its own until it is gone.
    assert present.keys() - sources.keys() == {
        "headrace_end_runs_1",
        "headrace_start_runs_1",
        "headrace_flush_1",
    }
    # Each statement of a volatile function has a snapshot of its own.
    assert {volatile for _, _, volatile, _ in found} == {"v"}
    (settings,) = [config for name, _, _, config in found if name == FLUSH]
    assert settings == ["enable_seqscan=off", "jit=off", "plan_cache_mode=force_generic_plan"]


def test_bodies_name_the_schema_of_each_table_and_function():
    for name, text in definitions_in("my-agents").items():
        assert f'FUNCTION "my-agents".{name}(' in text
        for table in ("threads", "runs", "checkpoints", "processes", "assistants"):
            assert f"FROM {table}" not in text
            assert f"INTO {table}" not in text
            assert f"UPDATE {table}" not in text


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(f"DROP FUNCTION {FLUSH}", id="missing"),
        pytest.param(
            f"DROP FUNCTION {FLUSH}; CREATE FUNCTION {FLUSH}(n int) RETURNS int LANGUAGE sql"
            " AS 'SELECT n'",
            id="another",
        ),
        pytest.param(f"CREATE SCHEMA s; ALTER FUNCTION {FLUSH} SET SCHEMA s", id="moved"),
    ],
)
def test_functions_that_are_not_ours_are_told_and_mended(database_url, fault):
    execute(database_url, fault)
    settings = database_settings(database_url)
    said = drift(settings)
    assert said is not None
    assert said.startswith(f"{FLUSH}: missing, or not the functions of this release")
    with pytest.raises(StartupRefusal, match=rf"HR311 .*{FLUSH}: missing, .*db upgrade"):
        start(database_url)
    upgrade(settings)
    assert drift(settings) is None
    start(database_url)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        pytest.param(
            "DROP TRIGGER runs_webhook_end ON runs", "trigger runs_webhook_end:", id="missing"
        ),
        pytest.param(
            "ALTER TABLE threads DISABLE TRIGGER USER",
            "trigger threads_listed_insert, threads_listed_status, threads_listed_metadata:",
            id="switched-off",
        ),
        pytest.param(
            "CREATE OR REPLACE FUNCTION runs_set_webhook() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN RETURN NEW; END'",
            "trigger runs_webhook_insert:",
            id="another-text",
        ),
        pytest.param(
            "CREATE SCHEMA s; ALTER FUNCTION runs_tell_webhook() SET SCHEMA s",
            "trigger runs_webhook_end:",
            id="function-moved",
        ),
        pytest.param(
            "DROP FUNCTION runs_tell_webhook CASCADE; DROP FUNCTION threads_set_listed CASCADE",
            "trigger threads_listed_insert, threads_listed_status, threads_listed_metadata,"
            " runs_webhook_end:",
            id="functions-dropped",
        ),
    ],
)
def test_triggers_that_are_not_ours_are_told_and_mended(database_url, fault, told):
    execute(database_url, fault)
    settings = database_settings(database_url)
    said = drift(settings)
    assert said is not None
    assert said.startswith(told)
    with pytest.raises(StartupRefusal, match=rf"HR311 .*{told} missing, .*db upgrade"):
        start(database_url)
    upgrade(settings)
    assert drift(settings) is None
    start(database_url)
    with psycopg.connect(database_url) as database:
        (row,) = database.execute("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal")
    assert row[0] == len(triggers())


def test_triggers_of_a_later_schema_are_not_looked_at(database_url):
    """A later release may have none of ours."""
    execute(database_url, "DROP TRIGGER runs_webhook_end ON runs")
    execute(database_url, "UPDATE headrace_alembic_version SET version_num = '9999'")
    start(database_url)


def test_a_role_that_may_not_call_them_is_told(database_url):
    execute(
        database_url,
        "DO $$ BEGIN CREATE ROLE flush_caller LOGIN; EXCEPTION WHEN duplicate_object THEN END $$",
    )
    for name in function_definitions():
        execute(database_url, f"REVOKE EXECUTE ON FUNCTION {name} FROM PUBLIC")
    execute(database_url, "GRANT ALL ON ALL TABLES IN SCHEMA public TO flush_caller")
    execute(database_url, "GRANT USAGE ON SCHEMA public TO flush_caller")
    url = psycopg.conninfo.make_conninfo(database_url, user="flush_caller")
    with pytest.raises(StartupRefusal, match=r"HR318 .*flush_caller may not call it.*GRANT"):
        start(url)
    execute(database_url, "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO flush_caller")
    start(url)
