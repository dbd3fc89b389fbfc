"""A process that has imported headrace, and forks a gunicorn master for each request.

To import headrace takes seconds of the processor: once for each test process, in place of once for
each server. ``headrace serve`` imports after the fork. That makes no other server process: nothing
happens at import (tests/architecture).

``python -m tests.support.nursery``: a line of JSON on the standard input is a request, the pid is
the answer. When a master has ended, its exit status stands in the file that the request names.
"""

import json
import os
import resource
import select
import signal
import sys
from pathlib import Path
from typing import Any

from gunicorn.app.wsgiapp import run

import headrace.server.app
import headrace.server.process  # noqa: F401 - imported to be there
from tests.support import preloaded_gunicorn


def _serve() -> dict[str, Any] | None:
    """In a new master: its request. In the nursery: None, once nobody asks any more."""
    ends: dict[int, Path] = {}
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker)
    while True:
        ready, _, _ = select.select([sys.stdin, woken], [], [])
        if woken in ready:
            os.read(woken, 512)
            _note_ends(ends)
        if sys.stdin not in ready:
            continue
        line = sys.stdin.buffer.readline()
        if not line:
            return None
        request: dict[str, Any] = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(woken)
            os.close(waker)
            return request
        ends[pid] = Path(request["end"])
        os.write(1, f"{pid}\n".encode())


def _note_ends(ends: dict[int, Path]) -> None:
    while ends:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        file = ends.pop(pid)
        new = file.with_suffix(".new")
        new.write_text(str(os.waitstatus_to_exitcode(status)))
        new.rename(file)


def _become(request: dict[str, Any]) -> None:
    """What a program finds that was started with this environment and these arguments."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for file, standard in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(file, standard)
    os.close(nothing)
    os.close(log)
    os.environ.clear()
    os.environ.update(request["environment"])
    if (count := request["open_files"]) is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
    # A new master, after USR2, is started with this.
    sys.argv = [preloaded_gunicorn.__file__, *request["arguments"]]


if __name__ == "__main__":
    if (request := _serve()) is not None:
        _become(request)
        run()
