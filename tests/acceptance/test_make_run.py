"""`make run` as a newcomer types it: ready soon, a conversation, Ctrl-C, and all of it again."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.support.curl import curl_lines, paste
from tests.support.processes import free_port
from tests.support.trust import registry_environment
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.alone, pytest.mark.timeout(400)]

CHECKOUT = Path(__file__).parents[2]
NOT_COPIED = shutil.ignore_patterns(
    ".venv", ".tools", ".git", ".headrace", ".*_cache", "__pycache__"
)
#: Everything is installed anew: slow, and the registries are asked.
COLD = bool(os.environ.get("TEST_COLD"))
COLD_SECONDS, WARM_SECONDS = 120.0, 10.0


class MakeRun:
    """One ``make run`` in a terminal's foreground."""

    def __init__(self, folder: Path, port: int, *arguments: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log_file = folder.parent / "log"
        with self.log_file.open("wb") as log:
            self._make = subprocess.Popen(
                ["make", "run", *arguments],
                cwd=folder,
                env={**registry_environment(), "HEADRACE_PORT": str(port)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def seconds_until_first_screen(self, limit: float) -> float:
        started = time.monotonic()
        wait_until(lambda: " · try:" in self.log or self._make.poll() is not None, seconds=limit)
        assert self._make.poll() is None, self.log
        return time.monotonic() - started

    def ctrl_c(self) -> None:
        """As a terminal does: to the whole foreground group."""
        os.killpg(self._make.pid, signal.SIGINT)
        self._make.wait(60)

    def end(self) -> None:
        if self._make.poll() is None:
            os.killpg(self._make.pid, signal.SIGTERM)
            self._make.wait(60)


def test_make_run_twice(tmp_path):
    folder = tmp_path / "clone"
    shutil.copytree(CHECKOUT, folder, ignore=NOT_COPIED)
    venv = CHECKOUT / ".venv"
    # -o: as it is, whatever its age; installing would point it at the copy.
    arguments = [] if COLD else [f"VENV={venv}", "-o", f"{venv}/run.stamp"]
    port = free_port()
    first = MakeRun(folder, port, *arguments)
    try:
        limit = COLD_SECONDS if COLD else 60.0
        seconds = first.seconds_until_first_screen(limit)
        print(f"make run, {'cold' if COLD else 'new database'}: {seconds:.1f} s")
        check_first_screen(first)
        check_conversation(first, port)
        check_both_processes_answer(first)
        first.ctrl_c()
    finally:
        first.end()
    check_all_gone(first, folder)

    second = MakeRun(folder, port, *arguments)
    try:
        seconds = second.seconds_until_first_screen(60)
        print(f"make run, warm: {seconds:.1f} s (floor {WARM_SECONDS:.0f})")
        assert seconds <= WARM_SECONDS
        check_it_remembers(second)
        second.ctrl_c()
    finally:
        second.end()
    check_all_gone(second, folder)


def check_first_screen(run: MakeRun) -> None:
    (screen,) = [line for line in run.log.splitlines() if " · try:" in line]
    assert re.fullmatch(
        r"postgres 18 \(embedded\) \.headrace/pg · schema \d{4} ok · graphs: chat \(built in\)"
        rf" · 2 processes x pool 10 = 24 of 100 connections · {re.escape(run.url)} · try:",
        screen,
    )
    assert len(curl_lines(run.log)) == 3
    # All processes serve by then: nothing they say at start buries it.
    processes = httpx.get(f"{run.url}/health").json()["processes"]
    assert [one["state"] for one in processes] == ["serving"] * 2


def check_conversation(run: MakeRun, port: int) -> None:
    """The lines of the first screen, then those of the README, on the address of this server."""
    replies = [paste(line)["reply"] for line in curl_lines(run.log)]
    assert replies == [
        "I will remember that.",
        "You said: Remember that I like green tea.",
        "You asked me to remember: I like green tea.",
    ]
    readme = (CHECKOUT / "README.md").read_text().replace("127.0.0.1:8123", f"127.0.0.1:{port}")
    lines = curl_lines(readme)
    assert lines
    for line in lines:
        paste(line)


def check_both_processes_answer(run: MakeRun) -> None:
    pids = Counter(httpx.get(f"{run.url}/livez").json()["pid"] for _ in range(40))
    print(f"40 requests: {dict(pids)}")
    assert len(pids) == 2


def check_it_remembers(run: MakeRun) -> None:
    def say(message: str, thread_id: str) -> str:
        body = {"message": message, "thread_id": thread_id, "user_id": "ada"}
        reply: str = httpx.post(f"{run.url}/chat", json=body, timeout=20).json()["reply"]
        return reply

    assert say("What did I just say?", "first") == "You said: What did I just say?"
    assert say("What do you remember?", "third").startswith("You asked me to remember: I like gr")


def check_all_gone(run: MakeRun, folder: Path) -> None:
    assert "Traceback" not in run.log
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{run.url}/livez")
    assert not (folder / ".headrace" / "pg" / "postmaster.pid").exists()
