"""``headrace db adopt``: a thread for each conversation that upstream's saver left without one."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg.types.json import Jsonb

from headrace.db.migrate import Adoption, adopt
from headrace.errors import StartupRefusal
from tests.migrations.commands import run_headrace
from tests.support.database import database_settings

FIRST = datetime(2025, 3, 1, 8, 30, 0, 250000, UTC)
LAST = datetime(2025, 4, 2, 20, 0, tzinfo=UTC)


@pytest.fixture
def database(database_url):
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        yield connection


def insert_checkpoint(database, thread_id: str, checkpoint: object, *, ns: str = "") -> None:
    database.execute(
        "INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint)"
        " VALUES (%s, %s, gen_random_uuid(), %s)",
        (thread_id, ns, Jsonb(checkpoint)),
    )


def threads(database) -> dict[str, tuple]:
    rows = database.execute(
        "SELECT thread_id, created_at, updated_at, state_updated_at, status FROM threads"
    )
    return {row[0]: row[1:] for row in rows}


def test_a_thread_is_dated_by_its_first_and_last_checkpoint(database_url, database):
    for written_at in (LAST, FIRST, FIRST + timedelta(days=1)):
        insert_checkpoint(database, "ada", {"ts": written_at.isoformat()})
    insert_checkpoint(database, "zulu", {"ts": "2025-03-01T08:30:00.25Z"})
    insert_checkpoint(database, "paris", {"ts": "2025-03-01T09:30:00.25+01:00"})
    assert adopt(database_settings(database_url)) == Adoption(threads=3, skipped=0)
    assert threads(database) == {
        "ada": (FIRST, LAST, LAST, "idle"),
        "zulu": (FIRST, FIRST, FIRST, "idle"),
        "paris": (FIRST, FIRST, FIRST, "idle"),
    }


def test_a_thread_that_is_there_stays_as_it_is(database_url, database):
    database.execute(
        "INSERT INTO threads (thread_id, tenant, created_at) VALUES ('ada', 'acme', %s)", (LAST,)
    )
    insert_checkpoint(database, "ada", {"ts": FIRST.isoformat()})
    assert adopt(database_settings(database_url)).threads == 0
    row = database.execute("SELECT tenant, created_at FROM threads").fetchone()
    assert row == ("acme", LAST)


def test_a_subgraphs_checkpoints_alone_make_no_thread(database_url, database):
    insert_checkpoint(database, "ada", {"ts": LAST.isoformat()})
    insert_checkpoint(database, "ada", {"ts": FIRST.isoformat()}, ns="child:1")
    insert_checkpoint(database, "orphan", {"ts": FIRST.isoformat()}, ns="child:1")
    assert adopt(database_settings(database_url)).threads == 1
    assert threads(database) == {"ada": (LAST, LAST, LAST, "idle")}


def test_adoption_is_repeatable(database_url, database):
    insert_checkpoint(database, "ada", {"ts": FIRST.isoformat()})
    assert adopt(database_settings(database_url)).threads == 1
    assert adopt(database_settings(database_url)) == Adoption(threads=0, skipped=0)


def test_an_id_that_no_thread_may_have_is_counted_and_left_out(database_url, database):
    for thread_id in ("x" * 255, "ä" * 255, "x" * 256, "y" * 600):
        insert_checkpoint(database, thread_id, {"ts": FIRST.isoformat()})
        insert_checkpoint(database, thread_id, {"ts": LAST.isoformat()})
    assert adopt(database_settings(database_url)) == Adoption(threads=2, skipped=2)
    assert set(threads(database)) == {"x" * 255, "ä" * 255}
    answer = run_headrace("db", "adopt", database_url=database_url)
    assert answer.stdout == "0 threads adopted, 2 left out: id longer than 255\n"


@pytest.mark.parametrize(
    "checkpoint",
    [
        {},
        {"ts": None},
        {"ts": ""},
        {"ts": 1740817800},
        {"ts": {"seconds": 1}},
        {"ts": "yesterday"},
        {"ts": "infinity"},
        {"ts": "2025-03-01"},
        {"ts": "2025-13-01T08:30:00+00:00"},
        {"ts": "2025-03-00T08:30:00+00:00"},
        {"ts": "0000-03-01T08:30:00+00:00"},
        {"ts": "2025-03-01T25:30:00+00:00"},
        {"ts": "2025-03-01T08:61:00+00:00"},
        {"ts": "2025-03-01T08:30:99+00:00"},
        {"ts": "2025-03-01T08:30:00+99:99"},
        ["not", "an", "object"],
        "text",
    ],
)
def test_an_unreadable_date_does_not_break_adoption(checkpoint, database_url, database):
    before = datetime.now(UTC) - timedelta(minutes=1)
    insert_checkpoint(database, "odd", checkpoint)
    insert_checkpoint(database, "ada", checkpoint)
    insert_checkpoint(database, "ada", {"ts": FIRST.isoformat()})
    assert adopt(database_settings(database_url)).threads == 2
    found = threads(database)
    assert found["ada"] == (FIRST, FIRST, FIRST, "idle")
    assert found["odd"][0] > before


def test_a_day_that_its_month_does_not_have_does_not_break_adoption(database_url, database):
    insert_checkpoint(database, "ada", {"ts": "2025-02-30T08:30:00+00:00"})
    assert adopt(database_settings(database_url)).threads == 1


def test_the_last_day_of_every_month_is_readable(database_url, database):
    first_days = [datetime(2024, month, 1, 12, tzinfo=UTC) for month in range(2, 13)]
    last_days = {str(day.month): day - timedelta(days=1) for day in first_days}
    for thread_id, day in last_days.items():
        insert_checkpoint(database, thread_id, {"ts": day.isoformat()})
    assert adopt(database_settings(database_url)).threads == len(last_days)
    assert {thread_id: found[0] for thread_id, found in threads(database).items()} == last_days


def test_more_than_a_batch_is_adopted(database_url, database):
    database.execute(
        "INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint)"
        " SELECT 'thread-' || n, 'c', jsonb_build_object('ts', '2025-03-01T08:30:00.25+00:00')"
        " FROM generate_series(1, 1001) n"
    )
    assert adopt(database_settings(database_url)).threads == 1001
    assert len(threads(database)) == 1001


def test_adoption_is_refused_while_the_schema_is_behind(database_url, database):
    insert_checkpoint(database, "ada", {"ts": FIRST.isoformat()})
    database.execute("UPDATE headrace_alembic_version SET version_num = '0003'")
    with pytest.raises(StartupRefusal, match=r"HR311 .*headrace db upgrade"):
        adopt(database_settings(database_url))
    assert threads(database) == {}


def test_adoption_of_an_empty_database_is_refused(empty_database_url):
    answer = run_headrace("db", "adopt", database_url=empty_database_url)
    assert answer.returncode == 1
    assert answer.stderr.startswith("HR311 ")
    assert "headrace db upgrade" in answer.stderr
