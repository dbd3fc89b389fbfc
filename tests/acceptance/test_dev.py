"""``headrace init`` and ``headrace dev`` in somebody's folder: a first reply, a save, a mistake."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.support.processes import free_port
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

ANSWER = 'f"You said: {state'
GOES_ON = "what was there before goes on"
RELOADED = "\nreloaded in "
KEY = "a-key-of-this-test-0001"

#: What is saved, and what is said of it.
MISTAKES = {
    "an import of nothing": (
        "import nothing_of_this_name\n",
        "HR105 graph 'agent' (./graph.py:builder)",
    ),
    "a syntax error": ("x = 1\n\nbuilder = (\n", "'(' was never closed (graph.py line 3)"),
    "sys.exit": ("import sys\nsys.exit(3)\n", "as sys.exit(3) does (graph.py line 2)"),
    "os._exit": (
        "import os\nos._exit(0)\n",
        "HR105 graph.py: importing it ended the process (exit",
    ),
    "a signal": ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", "(SIGSEGV)"),
    "Ctrl-C": ("raise KeyboardInterrupt\n", "raised KeyboardInterrupt (graph.py line 1)"),
    "a bad edge": (
        "from langgraph.graph import START, MessagesState, StateGraph\n"
        "builder = StateGraph(MessagesState)\nbuilder.add_edge(START, 'gone')\n",
        "Correct its nodes and edges",
    ),
    "an error": (
        "def f():\n    1 / 0\n\n\nf()\n",
        "  graph.py line 2, in f\n    1 / 0\nZeroDivisionError: division by zero\nHR105 ",
    ),
}


class Dev:
    """``headrace dev`` in a folder."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder.with_suffix(".log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "headrace", "dev", f"--port={port}", *arguments],
                cwd=folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def __enter__(self) -> "Dev":
        wait_until(lambda: " · try:" in self.log or self._process.poll() is not None, seconds=30)
        assert self._process.poll() is None, self.log
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        assert self._process.wait(60) == 0, self.log

    def reload(self, change: Callable[[], object]) -> None:
        """Change something, and wait until it serves."""
        before = self.log.count(RELOADED)
        change()
        wait_until(lambda: self.log.count(RELOADED) > before, seconds=60)

    def say(self, message: str, **headers: str) -> str:
        body = {"message": message}
        response = httpx.post(f"{self.url}/chat", json=body, headers=headers, timeout=60)
        assert response.status_code == 200, response.text
        reply: str = response.json()["reply"]
        return reply


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project that ``headrace init`` made."""
    folder = tmp_path / "project"
    folder.mkdir()
    init(folder)
    return folder


def init(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "headrace", "init"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_init_writes_twelve_lines_and_touches_nothing(folder):
    assert len((folder / "graph.py").read_text().splitlines()) == 12
    (folder / "graph.py").write_text("mine")
    again = init(folder)
    assert again.returncode == 1
    assert again.stderr.startswith("HR206 ")
    assert (folder / "graph.py").read_text() == "mine"


def test_a_save_is_put_in_place(folder):
    graph = folder / "graph.py"
    first = graph.read_text()
    with Dev(folder) as dev:
        assert dev.say("hi") == "You said: hi"
        dev.reload(lambda: graph.write_text(first.replace(ANSWER, 'f"You wrote: {state')))
        # An answer of the process before it may still be on its way.
        wait_until(lambda: dev.say("hi") == "You wrote: hi", seconds=60)


@pytest.fixture(scope="module")
def running(
    module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, Dev, str]]:
    """A project whose saves are put in place, and its first graph; each test goes on with what the
    last one left.
    """
    folder = tmp_path_factory.mktemp("running") / "project"
    folder.mkdir()
    init(folder)
    with Dev(folder, "--processes=1", DATABASE_URL=module_database) as dev:
        yield folder, dev, (folder / "graph.py").read_text()


def test_a_good_save_and_a_broken_one_right_after_it(running):
    folder, dev, good = running
    graph = folder / "graph.py"
    served, reloads = dev.say("hi"), dev.log.count(RELOADED)
    parts = dev.log.count(GOES_ON)
    graph.write_text(good + "\n")
    # The moment in which the new server is started: it imports what the check has not seen.
    wait_until(lambda: len(servers(folder)) == 2, seconds=60)
    graph.write_text("import nothing_of_this_name\n")
    wait_until(lambda: dev.log.count(GOES_ON) > parts, seconds=60)
    assert dev.say("hi") == served
    (folder / ".env").write_text("GREETING=hello\n")
    text = good.replace(ANSWER, "f\"{os.environ['GREETING']}: {state")
    dev.reload(lambda: graph.write_text(f"import os\n{text}"))
    wait_until(lambda: dev.say("hi") == "hello: hi", seconds=60)
    wait_until(lambda: len(servers(folder)) == 1, seconds=30)
    assert dev.log.count(RELOADED) == reloads + 1


def test_no_sequence_of_saves_ends_the_server(running):
    folder, dev, good = running
    graph, manifest = folder / "graph.py", folder / "langgraph.json"
    settings, served = manifest.read_text(), dev.say("hi")

    def failed(change: Callable[[], object], says: str) -> None:
        """After the change one more attempt has failed, and the old graph goes on."""
        parts = dev.log.count(GOES_ON) + 1
        change()
        wait_until(lambda: dev.log.count(GOES_ON) == parts, seconds=60)
        assert says in dev.log.split(GOES_ON)[parts - 1]
        assert dev.say("hi") == served

    for text, says in MISTAKES.values():
        failed(partial(graph.write_text, text), says)
    failed(graph.unlink, "HR101 graph 'agent' (./graph.py:builder): there is no file ./graph.py")
    failed(manifest.unlink, "HR104 manifest ")
    failed(partial(manifest.write_text, '{"graphs": '), "HR104 manifest ")
    failed(partial(manifest.write_text, settings), "there is no file ./graph.py")
    failed(partial((folder / ".env").write_text, "HEADRACE_EVENTS__RING_EVENTS=many\n"), "HR001 ")
    (folder / ".env").unlink()

    # An import without an end is given up for what is saved next.
    graph.write_text("while True: pass\n")
    wait_until(lambda: "still importing, at graph.py line 1" in dev.log, seconds=60)

    # As editors do: a new file takes the place of the old one.
    draft = folder / "graph.py.new"
    draft.write_text(good.replace(ANSWER, 'f"You wrote: {state'))
    dev.reload(lambda: draft.rename(graph))
    wait_until(lambda: dev.say("hi") == "You wrote: hi", seconds=60)


def servers(folder: Path) -> list[str]:
    return (folder / ".headrace" / "server.lock").read_text().split()


def test_a_graph_file_alone_its_folders_environment_and_a_key(folder, database_url):
    (folder / "langgraph.json").unlink()
    graph = folder / "graph.py"
    text = graph.read_text().replace(ANSWER, "f\"{os.environ['GREETING']}: {state")
    graph.write_text(f"import os\n{text}")
    (folder / ".env").write_text("GREETING=from the file\nHEADRACE_PROCESSES=1\n")
    with Dev(folder, DATABASE_URL=database_url, HEADRACE_API_KEYS=KEY) as dev:
        assert "1 processes x pool 10" in dev.log
        assert "graphs: agent" in dev.log
        assert "-H 'x-api-key: " in dev.log
        assert KEY not in dev.log
        assert httpx.post(f"{dev.url}/chat", json={"message": "hi"}).status_code == 401
        assert dev.say("hi", **{"x-api-key": KEY}) == "from the file: hi"
