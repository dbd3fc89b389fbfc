"""What the attack does to the processes: their memory, their lives, and their health."""

import http.client
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.attack.site import Target, resident

_EVERY_SECONDS = 0.1
#: gunicorn's words for a process whose event loop was silent for too long.
_WATCHDOG = re.compile(r"WORKER TIMEOUT|was sent SIG(ABRT|KILL)", re.IGNORECASE)


@dataclass(slots=True)
class Seen:
    #: Most bytes that one process had.
    most_memory: int = 0
    pids: set[int] = field(default_factory=set)
    watchdog_kills: int = 0
    #: Seconds that the slowest answer of /livez on the port of health took; 99 for none.
    slowest_health: float = 0.0

    def restarts(self, processes: int) -> int:
        """How many processes took the place of others."""
        return max(0, len(self.pids) - processes)


@contextmanager
def watched(server: Target) -> Iterator[Seen]:
    """Look at the processes until the block ends; then what is yielded is complete."""
    seen = Seen(pids=set(server.children()))
    told_before = len(server.log())
    over = threading.Event()
    threads = [
        threading.Thread(target=look, args=(server, seen, over), name=look.__name__)
        for look in (_look_at_processes, _ask_health)
    ]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join()
        seen.watchdog_kills = len(_WATCHDOG.findall(server.log()[told_before:]))


def _look_at_processes(server: Target, seen: Seen, over: threading.Event) -> None:
    while not over.wait(_EVERY_SECONDS):
        for pid in server.children():
            seen.pids.add(pid)
            seen.most_memory = max(seen.most_memory, resident(pid))


def _ask_health(server: Target, seen: Seen, over: threading.Event) -> None:
    while not over.wait(5 * _EVERY_SECONDS):
        began = time.monotonic()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", server.health_port, timeout=10)
            connection.request("GET", "/livez")
            answered = connection.getresponse().status == 200
            connection.close()
        except (OSError, http.client.HTTPException):
            answered = False
        took = time.monotonic() - began if answered else 99.0
        seen.slowest_health = max(seen.slowest_health, took)
