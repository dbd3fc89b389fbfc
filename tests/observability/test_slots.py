"""Status slots: written whole, read by everybody, gone with their process."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.observability.slots import (
    Slot,
    StatusBoard,
    read_slots,
    remove_slot,
    slots_directory,
    write_slot,
)
from tests.support.measured import FIGURES


@pytest.fixture
def other_pid() -> Iterator[int]:
    """A living process that is not this one."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def board(tmp_path: Path) -> StatusBoard:
    return StatusBoard(tmp_path, stale_seconds=5.0)


def slot_of(pid: int, *, silent_seconds: float = 0.0, **changes: object) -> Slot:
    written_at = time.time() - silent_seconds
    about = {"pid": pid, "state": "serving", "started_at": written_at, "written_at": written_at}
    return Slot.model_validate({**about, "figures": FIGURES, **changes})


def test_a_slot_is_read_as_it_was_written(tmp_path: Path) -> None:
    slot = slot_of(os.getpid())
    write_slot(tmp_path, slot)
    assert read_slots(tmp_path) == [slot]
    assert [path.name for path in slots_directory(tmp_path).iterdir()] == [f"{os.getpid()}.json"]


def test_writing_again_replaces(tmp_path: Path) -> None:
    write_slot(tmp_path, slot_of(os.getpid()))
    write_slot(tmp_path, slot_of(os.getpid(), state="draining"))
    assert [slot.state for slot in read_slots(tmp_path)] == ["draining"]


def test_a_removed_slot_is_gone_and_may_be_removed_again(tmp_path: Path) -> None:
    write_slot(tmp_path, slot_of(os.getpid()))
    remove_slot(tmp_path, os.getpid())
    remove_slot(tmp_path, os.getpid())
    assert read_slots(tmp_path) == []


def test_no_runtime_directory_yet_is_an_empty_board(tmp_path: Path) -> None:
    assert read_slots(tmp_path / "missing") == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"pid": 1, "state": "ser',
        b"\xff\xfe\x00",
        b"[]",
        b'{"name": "not ours"}',
        b'{"pid": 0, "state": "serving", "started_at": 0, "written_at": 0}',
        b'{"pid": -1, "state": "serving", "started_at": 0, "written_at": 0}',
        b'{"pid": 99999999999999999999, "state": "serving", "started_at": 0, "written_at": 0}',
        b'{"pid": 1, "state": "asleep", "started_at": 0, "written_at": 0}',
    ],
)
def test_torn_and_foreign_files_are_passed_over(
    tmp_path: Path, board: StatusBoard, content: bytes
) -> None:
    board.publish()
    (slots_directory(tmp_path) / "77.json").write_bytes(content)
    assert board.read_all() == [board.own]


def test_other_things_in_the_directory_are_passed_over(tmp_path: Path, board: StatusBoard) -> None:
    board.publish()
    (slots_directory(tmp_path) / "folder.json").mkdir()
    (slots_directory(tmp_path) / "nowhere.json").symlink_to("missing")
    (slots_directory(tmp_path) / "77.new").write_text("half a slot")
    assert board.read_all() == [board.own]


def test_fields_of_a_later_release_are_ignored(tmp_path: Path) -> None:
    slot = slot_of(os.getpid())
    write_slot(tmp_path, slot)
    path = slots_directory(tmp_path) / f"{os.getpid()}.json"
    path.write_text(path.read_text().replace("{", '{"mood":"good",', 1))
    assert read_slots(tmp_path) == [slot]


def test_a_dead_process_is_not_on_the_board(tmp_path: Path, board: StatusBoard) -> None:
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    write_slot(tmp_path, slot_of(int(process.stdout)))
    assert board.read_all() == [board.own]


def test_a_silent_process_is_stale_unless_it_starts(board: StatusBoard) -> None:
    assert not board.is_stale(slot_of(1, silent_seconds=4.0))
    assert board.is_stale(slot_of(1, silent_seconds=6.0))
    assert not board.is_stale(slot_of(1, silent_seconds=60.0, state="starting"))
    assert board.is_stale(slot_of(1, silent_seconds=6.0, state="draining"))


def test_a_clock_that_was_set_back_makes_nobody_stale(board: StatusBoard) -> None:
    assert slot_of(1, silent_seconds=-3600).age_seconds() == 0.0
    assert not board.is_stale(slot_of(1, silent_seconds=-3600))


def test_others_are_those_that_speak(tmp_path: Path, board: StatusBoard, other_pid: int) -> None:
    board.publish()
    assert board.others() == []
    write_slot(tmp_path, slot_of(other_pid))
    assert [slot.pid for slot in board.others()] == [other_pid]
    write_slot(tmp_path, slot_of(other_pid, silent_seconds=6.0))
    assert board.others() == []
    assert [slot.pid for slot in board.read_all()] == sorted([os.getpid(), other_pid])


def test_the_lowest_pid_that_speaks_leads(tmp_path: Path, board: StatusBoard) -> None:
    assert board.leads
    write_slot(tmp_path, slot_of(1))
    assert not board.leads
    write_slot(tmp_path, slot_of(1, silent_seconds=6.0))
    assert board.leads


def test_a_state_is_seen_by_others_at_once(tmp_path: Path, board: StatusBoard) -> None:
    board.set_state("draining")
    assert [slot.state for slot in read_slots(tmp_path)] == ["draining"]


def test_figures_stay_until_others_are_published(tmp_path: Path, board: StatusBoard) -> None:
    seen = []
    for figures in (FIGURES, None, FIGURES.model_copy(update={"runs_running": 7})):
        board.publish(figures)
        seen += [slot.figures for slot in read_slots(tmp_path)]
    assert seen == [FIGURES, FIGURES, FIGURES.model_copy(update={"runs_running": 7})]


def test_what_cannot_be_written_does_not_end_what_is_served(tmp_path: Path) -> None:
    (tmp_path / "slots").write_text("a file where the directory belongs")
    board = StatusBoard(tmp_path, stale_seconds=5.0)
    board.set_state("serving")
    assert board.own.state == "serving"


def test_without_a_runtime_directory_one_process_stands_alone() -> None:
    board = StatusBoard(None, stale_seconds=5.0)
    board.set_state("serving")
    assert not board.shared
    assert [slot.state for slot in board.read_all()] == ["serving"]
    assert board.others() == []
    board.remove()


def test_a_process_that_leaves_takes_its_slot_along(tmp_path: Path, board: StatusBoard) -> None:
    board.publish()
    board.remove()
    assert read_slots(tmp_path) == []
