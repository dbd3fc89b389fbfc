"""``headrace runs show``: a run told on a terminal, as it is in ``golden/``."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from headrace.checkpoints.run_checkpoints import RunCheckpoints, StoredCheckpoint
from headrace.cli.run_text import lines
from headrace.ids import uuid7
from headrace.runs.timeline_repository import RunRecord, StoredEvents
from headrace.runs.timeline_service import told
from tests.migrations.commands import run_headrace
from tests.support.runs import insert_running_run
from tests.support.runs import register_process as register

GOLDEN = Path(__file__).parent / "golden" / "run.txt"

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FIRST, SECOND, THIRD = UUID(int=11), UUID(int=12), UUID(int=13)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def stored(
    number: int, seconds: float, *nodes: str, namespace: str = "", attempt: int = 1
) -> StoredCheckpoint:
    return StoredCheckpoint(
        checkpoint_id=f"1f{number}",
        namespace=namespace,
        source="input" if number < 0 else "loop",
        step=number,
        attempt=attempt,
        nodes=nodes,
        created_at=at(seconds),
        seconds=0.5,
        bytes=1000,
        blob_bytes=None if namespace else 2_000_000,
        write_bytes=10,
    )


def earlier(attempt: int, start: float, end: float, ended: str, **more: Any) -> dict[str, Any]:
    return {
        "attempt": attempt,
        "process_id": str(FIRST),
        "hostname": "pod-a",
        "pid": 21,
        "started_at": at(start).isoformat(),
        "ended_at": at(end).isoformat(),
        "ended": ended,
        **more,
    }


def record() -> RunRecord:
    """A run that waited, was released, lost, rescued, and cancelled in the end."""
    row = {
        "run_id": UUID(int=1),
        "thread_id": "a thread\x1b[2J",
        "assistant_id": UUID(int=2),
        "graph_id": "mail",
        "status": "interrupted",
        "attempt": 3,
        "failures": 1,
        "process_id": THIRD,
        "multitask_strategy": "enqueue",
        "error": {"error": "UserInterrupt", "message": "The run was\ncancelled."},
        "error_cause": None,
        "created_at": START,
        "started_at": at(30),
        "ended_at": at(40),
        "cancel_action": "interrupt",
        "cancel_asked_at": at(39.5),
        "cancel_reason": "next_run",
        "cancel_note": None,
        "request_id": "req-1",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "earlier_attempts": [
            earlier(1, 2, 5, "released"),
            earlier(2, 6, 10, "lost", rescued_at=at(20).isoformat()),
        ],
        "interrupts": [{"id": "abc", "node": "approve"}],
        "durability": "sync",
        "goes_on": True,
        "hostname": None,
        "pid": None,
        "pruned_at": None,
        "read_at": at(100),
    }
    page = [
        stored(-1, 2.1),
        stored(0, 2.5, "__start__"),
        stored(1, 4, "plan", "read\tmail"),
        stored(0, 33, "draft", namespace="write:1", attempt=3),
    ]
    return RunRecord(
        row=row,
        checkpoints=RunCheckpoints(
            count=9,
            steps=5,
            bytes=6_003_000,
            last_at=at(33),
            last_of_attempts={"2": at(11)},
            page=page,
            longest=page[2],
            older_deleted=False,
        ),
        events=StoredEvents(3, at(2.2), at(4), 5000),
        resumes=UUID(int=5),
        resumed_by=[(UUID(int=6), at(60))],
        ahead=[(UUID(int=7), at(1.9))],
        tokens=(2, 100, 50, 0, 0),
    )


def test_the_text_is_as_in_the_golden_file() -> None:
    timeline, _ = told(record())
    assert "\n".join(lines(timeline)) + "\n" == GOLDEN.read_text()


def test_deleted_checkpoints_and_unknown_attempts_are_told() -> None:
    whole = record()
    row = {**whole.row, "earlier_attempts": None, "cancel_reason": None, "cancel_asked_at": None}
    known = replace(whole, row=row, checkpoints=replace(whole.checkpoints, older_deleted=True))
    text = "\n".join(lines(told(known)[0]))
    assert "checkpoints of the run are deleted" in text
    assert "2 attempts are not recorded" in text
    assert "reason: not recorded" in text


def test_a_run_is_found_without_its_thread(database, database_url) -> None:
    token = insert_running_run(database, register(database), "some thread")
    shown = run_headrace("runs", "show", str(token.run_id), database_url=database_url)
    assert shown.returncode == 0, shown.stderr
    assert "thread     some thread\n" in shown.stdout
    as_json = run_headrace("runs", "show", str(token.run_id), "--json", database_url=database_url)
    assert json.loads(as_json.stdout)["run"]["thread_id"] == "some thread"


def test_a_reader_who_leaves_gets_no_traceback(database, database_url) -> None:
    token = insert_running_run(database, register(database), "some thread")
    command = f"exec {sys.executable} -m headrace runs show {token.run_id} --json"
    reading, writing = os.pipe()
    os.close(reading)
    for stdout, code in ((writing, 1), (None, 0)):
        shown = subprocess.run(
            ["/bin/sh", "-c", command + ("" if stdout else " >&-")],
            env={**os.environ, "DATABASE_URL": database_url},
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=60,
        )
        assert (shown.stderr, shown.returncode) == (b"", code)
    os.close(writing)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has this device")
@pytest.mark.parametrize("command", ["runs show {}", "runs show {} --json", "usage", "db storage"])
def test_a_full_disk_is_one_sentence_and_exit_code_1(database, database_url, command) -> None:
    run_id = insert_running_run(database, register(database), "some thread").run_id
    with open("/dev/full", "w") as full:
        shown = subprocess.run(
            [sys.executable, "-m", "headrace", *command.format(run_id).split()],
            env={**os.environ, "DATABASE_URL": database_url},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert shown.returncode == 1
    assert shown.stderr == "The output could not be written: No space left on device.\n"


@pytest.mark.parametrize("run_id", [str(UUID(int=9)), "no-uuid"])
def test_no_run_is_one_sentence_and_exit_code_1(database_url, run_id) -> None:
    shown = run_headrace("runs", "show", run_id, database_url=database_url)
    assert shown.returncode == 1
    assert shown.stdout == ""
    assert shown.stderr.startswith(f"There is no run {run_id}. ")
    assert shown.stderr.count("\n") == 1


def test_a_database_without_the_schema_is_refused(empty_database_url) -> None:
    shown = run_headrace("runs", "show", str(uuid7()), database_url=empty_database_url)
    assert shown.returncode == 1
    assert shown.stderr.startswith("HR311 ")


def test_what_postgres_refuses_is_one_sentence(database, database_url) -> None:
    database.execute("ALTER TABLE runs RENAME TO theirs")
    shown = run_headrace("runs", "show", str(uuid7()), database_url=database_url)
    assert shown.returncode == 1
    assert shown.stderr.startswith("HR302 ")
    assert 'relation "runs" does not exist' in shown.stderr
    assert "Traceback" not in shown.stderr


def test_the_other_commands_do_not_import_langgraph() -> None:
    """It takes a second, and ``headrace db upgrade`` runs before each deploy."""
    code = (
        "import sys, headrace.cli.main; heavy = {'langgraph', 'langchain_core', 'langsmith'};"
        " print(*(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("\n", "")
