"""A stranger's project in a folder of its own, and the pages that its changes are copied from."""

import http.client
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.support.processes import free_port
from tests.support.sources import page
from tests.support.waiting import wait_until

HERE = Path(__file__).parent

#: Whose environment the project is in: another one has other releases of what headrace needs.
PYTHON = os.environ.get("HEADRACE_FLOORS_PYTHON") or sys.executable


class Project:
    """``edit`` takes only what the page says."""

    def __init__(self, folder: Path, name: str, guide: str) -> None:
        shutil.copytree(HERE / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
        self.folder = folder
        self._said = {line.split("   #")[0].strip() for line in page(guide).splitlines()}
        kept = {name: value for name, value in os.environ.items() if "HEADRACE" not in name}
        kept.pop("DATABASE_URL", None)
        self.environment = kept

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace ``old``, which is there once; an empty one makes the file."""
        path = self.folder / file
        text = path.read_text() if old else ""
        assert not old or text.count(old) == 1, (file, old)
        unsaid = [line for line in new.splitlines() if line.strip() not in {*self._said, ""}]
        before = {line.strip() for line in text.splitlines()}
        assert [line for line in unsaid if line.strip() not in before] == [], "not in the guide"
        path.write_text(text.replace(old, new) if old else new)

    def set(self, **variables: str) -> None:
        self.environment |= variables

    def run(self, *arguments: str) -> str:
        """``python -m ...`` in the folder; its output."""
        done = subprocess.run(
            [PYTHON, "-m", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def serving(self, *arguments: str, ready: str) -> Iterator[str]:
        """``python -m ... --port N``; its URL, once ``ready`` is answered. Ctrl-C ends it."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        log = self.folder / "log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                [PYTHON, "-m", *arguments, f"--port={port}"],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            wait_until(lambda: server.poll() is not None or answers(port, ready), seconds=90)
            assert server.poll() is None, log.read_text()
            yield url
            server.send_signal(signal.SIGINT)
            assert server.wait(40) == 0, log.read_text()
        finally:
            if server.poll() is None:
                server.terminate()
                server.wait(40)


def answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with closing(connection):
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
