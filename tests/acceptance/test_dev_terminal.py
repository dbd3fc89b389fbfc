"""What somebody sees who looks at the terminal of ``headrace dev``, as it is in ``golden/``."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

import httpx
import pytest

from headrace.observability.slots import read_slots
from tests.support.processes import free_port
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

GOLDEN = Path(__file__).parent / "golden" / "dev_session.txt"

GRAPH = """\
import asyncio

from langgraph.graph import START, MessagesState, StateGraph


def divide(text):
    return 1 / int(text)


async def reply(state: MessagesState):
    text = state["messages"][-1].text
    if text == "wait":
        await asyncio.sleep(60)
    return {"messages": [("ai", f"{divide(text)}")]}


builder = StateGraph(MessagesState)
builder.add_node(reply)
builder.add_edge(START, "reply")
"""

#: What differs from one session to the next.
VARYING = [
    (r"\d\d:\d\d:\d\d", "TIME"),
    (r"run [0-9a-f]{8}", "run ID"),
    (r"\b\d+ ms", "N ms"),
    (r"in \d+\.\d s", "in N s"),
    (r"127\.0\.0\.1:\d+", "HOST"),
    (r"Postgres \d+\.\d+|postgres \d+", "Postgres N"),
    (r"schema \d{4}", "schema N"),
    # Where root runs the tests.
    (r"Postgres runs as nobody.*\n", ""),
]


class Terminal:
    """``headrace dev`` on a terminal of its own."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._screen = b""
        ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "headrace", "dev", "--processes=1"),
                f"--port={self.url.rpartition(':')[2]}",
                *arguments,
            ],
            cwd=folder,
            env={**os.environ, "TERM": "xterm", **environment},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, args=(ours,), daemon=True)
        self._reader.start()

    def __enter__(self) -> "Terminal":
        self.until("· try:", seconds=60)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        assert self.process.wait(60) == 0, self.shown
        self._reader.join(10)

    @property
    def shown(self) -> str:
        return self._screen.decode(errors="replace").replace("\r\n", "\n")

    def until(self, text: str, *, seconds: float = 60) -> None:
        try:
            wait_until(lambda: text in self.shown, seconds=seconds)
        except AssertionError:
            raise AssertionError(f"no {text!r} in:\n{self.shown}") from None

    def say(self, message: str) -> httpx.Response:
        return httpx.post(f"{self.url}/chat", json={"message": message}, timeout=30)

    def _read(self, ours: int) -> None:
        with open(ours, "rb", buffering=0) as screen:
            try:
                while read := screen.read(65536):
                    self._screen += read
            except OSError:
                pass  # how Linux tells that nobody writes any more


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "graph.py").write_text(GRAPH)
    (tmp_path / "langgraph.json").write_text('{"graphs": {"agent": "./graph.py:builder"}}')
    return tmp_path


def steady(text: str) -> str:
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text)
    return text


def test_a_session_looks_as_it_was_written_down(folder: Path) -> None:
    with Terminal(folder, NO_COLOR="1") as terminal:
        assert terminal.say("4").status_code == 200
        terminal.until("POST   /chat 200")
        terminal.say("0")
        terminal.until("ZeroDivisionError")
        httpx.get(f"{terminal.url}/nothing", timeout=10)
        terminal.until("404")
        httpx.get(f"{terminal.url}/readyz", timeout=10)
        (folder / "graph.py").write_text(GRAPH + "\n")
        terminal.until("reloaded in")
        (folder / "graph.py").write_text(GRAPH + "import nothing_of_this_name\n")
        terminal.until("goes on")
        body = {"assistant_id": "agent", "input": {"messages": [["user", "wait"]]}}
        assert httpx.post(f"{terminal.url}/runs", json=body, timeout=30).status_code == 200
        wait_until(lambda: runs(folder) == 1)
        terminal.process.send_signal(signal.SIGINT)
        terminal.until("to end\n", seconds=10)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(10) == 0
    assert "\x1b" not in terminal.shown
    shown = steady(terminal.shown)
    if os.environ.get("WRITE_GOLDEN"):
        GOLDEN.write_text(shown)
    assert shown == GOLDEN.read_text()


def runs(folder: Path) -> int:
    slots = read_slots(folder / ".headrace" / "run")
    return sum(slot.figures.runs_running for slot in slots if slot.figures is not None)


def test_colours_and_json_are_for_those_who_want_them(folder: Path, database_url: str) -> None:
    with Terminal(folder, DATABASE_URL=database_url) as terminal:
        terminal.say("4")
        terminal.until("\x1b[32m200\x1b[0m")
    assert "{" not in terminal.shown.partition("· try:")[0]
    with Terminal(folder, "--log-json", DATABASE_URL=database_url) as terminal:
        terminal.say("4")
        terminal.until('"event":"request_answered"')
    lines = [line for line in terminal.shown.splitlines() if line.startswith("{")]
    answered = next(json.loads(line) for line in lines if "request_answered" in line)
    assert answered["route"] == "/chat"
    assert re.fullmatch(r"[0-9a-f-]{36}", answered["run_id"])
    assert "closing socket" not in terminal.shown
