"""The whole server as users run it: gunicorn, two processes, a database of its own."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from headrace.server.gunicorn import APPLICATION
from tests.support.processes import ServerUnderTest
from tests.support.roles import as_server
from tests.support.waiting import wait_until

GRAPHS = Path(__file__).parent / "graphs" / "langgraph.json"
FORMS = GRAPHS.with_name("forms.json")


class LiveServer(ServerUnderTest):
    """``headrace serve`` without its command line.

    It logs in as a role that reads and changes rows. ``database_url`` is that of the owner.
    """

    application = APPLICATION

    def __init__(self, folder: Path, database_url: str, **environment: str) -> None:
        super().__init__(folder, DATABASE_URL=self.login(database_url), **environment)
        self.database_url = database_url

    @staticmethod
    def login(database_url: str) -> str:
        """The URL that the server gets."""
        return as_server(database_url)

    def wait_ready(self, processes: int = 2) -> None:
        wait_until(lambda: len(self.serving()) >= processes, seconds=60)
        # Another process may answer from what it has read a quarter of a second ago.
        time.sleep(0.3)
        wait_until(lambda: self.status("/readyz") == 200)

    def status(self, path: str) -> int:
        """The status, or 0 when nobody answers."""
        try:
            return self.get(path).status_code
        except httpx.HTTPError:
            return 0

    def report(self) -> dict[str, Any]:
        """What /health says."""
        report: dict[str, Any] = self.get("/health").json()
        return report

    def serving(self) -> list[int]:
        try:
            processes = self.report()["processes"]
        except httpx.HTTPError:
            return []
        return [one["pid"] for one in processes if one["state"] == "serving"]

    def pids(self, event: str = "up") -> list[int]:
        return self.serving()

    def pools(self) -> list[dict[str, int]]:
        """The pool figures of each process."""
        return [one["pool"] for one in self.report()["processes"]]


@contextmanager
def live_server(
    folder: Path,
    database_url: str,
    *,
    config: Path | None = GRAPHS,
    kind: type[LiveServer] = LiveServer,
    processes: int | None = None,
    **environment: str,
) -> Iterator[LiveServer]:
    """A server that is ready; ended by signal afterwards.

    :param processes: None: as many as ``kind`` waits for.
    """
    if processes is not None:
        environment["HEADRACE_PROCESSES"] = str(processes)
    if config is not None:
        environment["HEADRACE_CONFIG"] = str(config)
    server = kind(folder, database_url, **environment)
    server.start()
    try:
        server.wait_ready(*(() if processes is None else (processes,)))
        yield server
    except BaseException:
        print(server.log()[-4000:])
        raise
    finally:
        server.close()
