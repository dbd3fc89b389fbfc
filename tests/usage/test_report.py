"""``headrace usage`` sums what models have used, and refuses what it cannot read in a sentence."""

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner

from headrace.cli.main import app
from headrace.db.migrate import upgrade
from headrace.errors import StartupRefusal
from tests.support.database import database_settings
from tests.support.sources import ROOT

ASSISTANT, GONE = UUID(int=7), UUID(int=8)
NOW = datetime.now(UTC)


@pytest.fixture
def rows(database):
    """Three runs of two threads: two today, and one twelve days ago."""
    database.execute(
        "INSERT INTO assistants (assistant_id, graph_id, name) VALUES (%s, 'agent', 'Ada')",
        (ASSISTANT,),
    )
    for run, thread, assistant, model, tokens, days in (
        (1, "t1", ASSISTANT, "gpt-5", 100, 0),
        (1, "t1", ASSISTANT, "small", 10, 0),
        (2, "t2", GONE, "gpt-5", 1000, 0),
        (3, "t1", ASSISTANT, "gpt-5", 5, 12),
    ):
        database.execute(
            "INSERT INTO run_usage (run_id, attempt, model, tenant, owner, thread_id, assistant_id,"
            " graph_id, calls, input_tokens, output_tokens, cached_tokens, reasoning_tokens,"
            " created_at) VALUES (%s, 1, %s, %s, 'anonymous', %s, %s, 'agent', 2, %s, 1, 3, 1, %s)",
            (
                UUID(int=run),
                model,
                "default" if run < 3 else "other",
                thread,
                assistant,
                tokens,
                NOW - timedelta(days=days),
            ),
        )


@pytest.fixture
def ask(database_url, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", database_url)

    def ask(*arguments):
        return CliRunner().invoke(app, ["usage", *arguments], env={"COLUMNS": "200"})

    return ask


def groups(result, by):
    assert result.exit_code == 0, result.output
    return {
        row[by]: (row["calls"], row["input_tokens"]) for row in json.loads(result.stdout)["rows"]
    }


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("assistant", {str(GONE): (2, 1000), str(ASSISTANT): (6, 115)}),
        ("thread", {"t2": (2, 1000), "t1": (6, 115)}),
        ("owner", {"anonymous": (8, 1115)}),
        ("graph", {"agent": (8, 1115)}),
        ("model", {"gpt-5": (6, 1105), "small": (2, 10)}),
        (
            "run",
            {str(UUID(int=2)): (2, 1000), str(UUID(int=1)): (4, 110), str(UUID(int=3)): (2, 5)},
        ),
        (
            "day",
            {
                f"{NOW:%Y-%m-%d}": (6, 1110),
                f"{NOW - timedelta(days=12):%Y-%m-%d}": (2, 5),
            },
        ),
    ],
)
def test_each_group_has_its_sums_the_largest_first(rows, ask, by, expected):
    found = groups(ask("--by", by, "--json"), by)
    assert found == expected
    assert list(found) == list(expected)


def test_time_and_tenant_bound_the_report(rows, ask):
    assert groups(ask("--by", "thread", "--since", "7d", "--json"), "thread") == {
        "t2": (2, 1000),
        "t1": (4, 110),
    }
    long_ago = (NOW - timedelta(days=20)).date().isoformat()
    ended = ask("--by", "run", "--since", long_ago, "--until", "7d", "--json")
    assert groups(ended, "run") == {str(UUID(int=3)): (2, 5)}
    moment = (NOW + timedelta(hours=1)).isoformat()
    assert len(groups(ask("--by", "run", "--until", moment, "--json"), "run")) == 3
    assert groups(ask("--tenant", "other", "--by", "run", "--json"), "run") == {
        str(UUID(int=3)): (2, 5)
    }


def test_json_has_the_sum_of_all_rows_and_the_names_of_assistants(rows, ask):
    document = json.loads(ask("--limit", "1", "--json").stdout)
    assert document["groups"] == 2
    assert document["total"] == {
        "calls": 8,
        "input_tokens": 1115,
        "output_tokens": 4,
        "cached_tokens": 12,
        "reasoning_tokens": 4,
    }
    assert [row["name"] for row in document["rows"]] == [None]
    names = {row["assistant"]: row["name"] for row in json.loads(ask("--json").stdout)["rows"]}
    assert names == {str(GONE): None, str(ASSISTANT): "Ada"}


def test_a_table_for_people_and_csv_for_programs(rows, ask):
    shown = ask()
    lines = shown.stdout.splitlines()
    assert lines[0].split() == [
        "assistant",
        "name",
        "calls",
        "input_tokens",
        "output_tokens",
        "cached_tokens",
        "reasoning_tokens",
    ]
    assert lines[2].split() == [str(ASSISTANT), "Ada", "6", "115", "3", "9", "3"]
    assert lines[-1].split() == ["total", "8", "1,115", "4", "12", "4"]
    assert len({len(line) for line in lines}) == 1
    table = list(csv.DictReader(io.StringIO(ask("--by", "model", "--csv").stdout)))
    assert [(row["model"], row["input_tokens"]) for row in table] == [
        ("gpt-5", "1105"),
        ("small", "10"),
    ]


def test_a_limit_says_how_many_rows_it_leaves_out(rows, ask):
    shown = ask("--by", "run", "--limit", "2", "--csv")
    assert len(shown.stdout.splitlines()) == 3
    assert shown.stderr == "1 more rows; raise --limit to see them\n"


def test_no_calls_are_said_in_words(ask):
    assert ask("--by", "day").stdout == "no model was called in this time\n"
    assert json.loads(ask("--json").stdout)["total"]["calls"] == 0


def test_names_that_users_choose_move_no_cursor(database, rows, ask):
    database.execute("UPDATE run_usage SET thread_id = %s", ("a\x1b[2Jb",))
    assert "a\\x1b[2Jb" in ask("--by", "thread").stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--by", "nonsense"], "--by nonsense is not one of assistant, thread, owner"),
        (["--since", "yesterday"], "--since 'yesterday' is no date like 2026-11-01"),
        (["--until", "7"], "--until '7' is no date"),
        (["--since", "999999w"], "is no date"),
        (["--since", "1d", "--until", "2d"], "--since is not before --until"),
        (["--since", "2999-01-01"], "--since is not before --until"),
        (["--limit", "0"], "--limit is a number from 1 to 1,000,000"),
        (["--json", "--csv"], "--json and --csv exclude each other"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_sentence(ask, arguments, sentence):
    refused = ask(*arguments)
    assert refused.exit_code == 2
    assert sentence in " ".join(refused.stderr.replace("│", " ").split())


def test_it_reads_a_schema_of_headraces_own(empty_database_url, ask, monkeypatch):
    upgrade(database_settings(empty_database_url, schema="headrace"))
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    monkeypatch.setenv("HEADRACE_DATABASE__SCHEMA", "headrace")
    assert ask().stdout == "no model was called in this time\n"


def test_the_statements_of_the_page_do_what_it_says(rows, database):
    text = (ROOT / "docs" / "usage.md").read_text()
    prices, costs, unpriced, rescues = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    database.execute(prices)
    found = database.execute(costs).fetchall()
    # 1,000 and 100 + 5 tokens of gpt-5, 3 of each call's input from the cache.
    expected: list[Any] = [
        (GONE, "agent", (997 * 1.25 + 3 * 0.125 + 10) / 1e6),
        (ASSISTANT, "agent", (99 * 1.25 + 6 * 0.125 + 20) / 1e6),
    ]
    assert [(one, graph, pytest.approx(float(cost))) for one, graph, cost in found] == expected
    assert database.execute(unpriced).fetchall() == [("small", 2, 11)]
    database.execute("UPDATE run_usage SET attempt = 2 WHERE model = 'small'")
    assert database.execute(rescues).fetchall() == [(UUID(int=1), 101)]


def test_a_schema_that_is_behind_is_refused_in_a_sentence(ask, database):
    database.execute("UPDATE headrace_alembic_version SET version_num = '0013'")
    database.execute("DROP TABLE run_usage")
    answer = ask()
    assert answer.exit_code == 1
    assert isinstance(answer.exception, StartupRefusal)
    assert str(answer.exception).startswith("HR311 database schema: the schema is at 0013")
