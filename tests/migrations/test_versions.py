"""Which release serves on which schema, and what the commands and the server say about it."""

import time

import httpx
import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from headrace.db.migrate import drift
from headrace.db.schema import known_revisions, scripts_folder
from tests.migrations.commands import run_headrace
from tests.support.database import database_settings
from tests.support.live import GRAPHS, live_server
from tests.support.start_times import start_limit_seconds

HEAD = known_revisions()[-1]


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def migrated_by_a_later_release(url: str, *, min_revision: str) -> None:
    execute(url, "UPDATE headrace_alembic_version SET version_num = '9001'")
    execute(url, f"UPDATE schema_compat SET min_revision = '{min_revision}'")


@pytest.mark.acceptance
def test_the_release_before_serves_on_a_newer_schema(tmp_path, database_url):
    migrated_by_a_later_release(database_url, min_revision=HEAD)
    with live_server(tmp_path, database_url, HEADRACE_CHAT_GRAPH="agent") as server:
        answer = httpx.post(f"{server.url}/chat", json={"message": "hi"}, timeout=20)
        assert answer.status_code == 200, answer.text
        assert answer.json()["reply"] == "message 1"


def refused_sentence(folder, database_url: str) -> str:
    started = time.monotonic()
    answer = run_headrace(
        "serve",
        database_url=database_url,
        folder=folder,
        HEADRACE_PORT="0",
        HEADRACE_CONFIG=str(GRAPHS),
    )
    seconds = time.monotonic() - started
    print(f"refused after {seconds:.1f} s")
    assert answer.returncode != 0
    assert "Traceback" not in answer.stderr
    (sentence,) = [line for line in answer.stderr.splitlines() if line.startswith("HR")]
    # At once: gunicorn would otherwise start its processes again and again.
    assert seconds <= start_limit_seconds()
    return sentence


@pytest.mark.acceptance
def test_serve_refuses_a_schema_that_no_longer_serves_this_release(tmp_path, database_url):
    migrated_by_a_later_release(database_url, min_revision="9001")
    sentence = refused_sentence(tmp_path, database_url)
    assert sentence.startswith("HR312 ")
    assert (
        f"schema is at 9001 and serves releases from schema 9001 on; this release has {HEAD}"
        in (sentence)
    )


@pytest.mark.acceptance
def test_serve_refuses_a_schema_that_is_behind(tmp_path, database_url):
    execute(database_url, "UPDATE headrace_alembic_version SET version_num = '0003'")
    sentence = refused_sentence(tmp_path, database_url)
    assert sentence.startswith("HR311 ")
    assert f"the schema is at 0003, this release needs {HEAD}" in sentence
    assert "headrace db upgrade" in sentence


@pytest.mark.acceptance
def test_serve_refuses_an_empty_database(tmp_path, empty_database_url):
    sentence = refused_sentence(tmp_path, empty_database_url)
    assert sentence.startswith("HR311 ")
    assert "headrace db upgrade" in sentence


def test_revisions_are_numbered_in_the_order_that_alembic_walks():
    config = Config()
    config.set_main_option("script_location", str(scripts_folder()))
    walked = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert known_revisions() == tuple(reversed(walked))


def test_an_upgrade_by_the_release_before_leaves_a_newer_schema_alone(database_url):
    """After a rollback of the release its migration job runs again."""
    migrated_by_a_later_release(database_url, min_revision=HEAD)
    answer = run_headrace("db", "upgrade", database_url=database_url)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout == "schema 9001 (was there already)\n"


def test_an_upgrade_of_a_schema_that_no_longer_serves_this_release_is_refused(database_url):
    migrated_by_a_later_release(database_url, min_revision="9001")
    answer = run_headrace("db", "upgrade", database_url=database_url)
    assert answer.returncode == 1
    assert answer.stderr.startswith("HR312 ")


def check(url: str) -> tuple[int, str]:
    answer = run_headrace("db", "check", database_url=url)
    assert answer.stderr == ""
    return answer.returncode, answer.stdout.strip()


def test_check_says_ok_on_a_fresh_schema(database_url):
    assert check(database_url) == (0, f"schema {HEAD} ok")


def test_check_fails_on_an_empty_database(empty_database_url):
    code, said = check(empty_database_url)
    assert (code, said) == (1, f"the schema is empty, this release needs {HEAD}")


def test_check_accepts_a_newer_schema_that_still_serves_this_release(database_url):
    migrated_by_a_later_release(database_url, min_revision=HEAD)
    assert check(database_url) == (0, "schema 9001 ok")


def test_check_fails_on_a_newer_schema_that_does_not(database_url):
    migrated_by_a_later_release(database_url, min_revision="9001")
    code, said = check(database_url)
    assert code == 1
    assert "serves releases from schema 9001 on" in said


def test_check_fails_on_drift(database_url):
    execute(database_url, "ALTER TABLE threads ADD COLUMN by_hand text")
    code, said = check(database_url)
    assert code == 1
    assert "by_hand" in said


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE threads ADD COLUMN by_hand text",
        "ALTER TABLE runs DROP COLUMN failures",
        "ALTER TABLE runs ALTER COLUMN attempt TYPE bigint",
        "ALTER TABLE runs ALTER COLUMN attempt DROP DEFAULT",
        "ALTER TABLE runs ALTER COLUMN attempt DROP NOT NULL",
        "DROP INDEX runs_pending_idx",
        "ALTER TABLE runs DROP CONSTRAINT runs_thread_id_fkey",
        "DROP TABLE assistants CASCADE",
    ],
)
def test_a_change_by_hand_is_drift(change, database_url):
    assert drift(database_settings(database_url)) is None
    execute(database_url, change)
    assert drift(database_settings(database_url)) is not None


def test_tables_that_are_not_ours_are_no_drift(database_url):
    execute(database_url, "CREATE TABLE users (id bigint PRIMARY KEY)")
    execute(database_url, "ALTER TABLE store ADD COLUMN by_hand text")
    assert drift(database_settings(database_url)) is None


def test_the_commands_say_one_line_each(empty_database_url):
    def says(*arguments: str) -> str:
        return run_headrace("db", *arguments, database_url=empty_database_url).stdout

    assert says("current") == f"schema none, this release has {HEAD}\n"
    assert says("upgrade") == f"schema {HEAD} (from none)\n"
    assert says("upgrade") == f"schema {HEAD} (was there already)\n"
    assert says("adopt") == "0 threads adopted\n"
