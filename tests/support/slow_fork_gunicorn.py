"""gunicorn whose master, while it forks its second process, learns that one of both has ended.

The handler of that signal runs in a callback of ``os.fork``: Python only prints what it raises, and
gunicorn does not know the second process yet. The process that ``APP_LATER`` numbers begins later.
"""

import os
import time
from itertools import count

from gunicorn.app.wsgiapp import run

import headrace.server.app
import headrace.server.process  # noqa: F401 - imported to be there

_forks = count(1)
#: By then the other process has ended.
_LATER_SECONDS = 2.0


def _wait_for_the_end_of_a_process() -> None:
    if next(_forks) == 2:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        # A handler of signals runs between two lines.
        time.sleep(0.1)


def _begin_later() -> None:
    if next(_forks) == int(os.environ["APP_LATER"]):
        time.sleep(_LATER_SECONDS)


if __name__ == "__main__":
    os.register_at_fork(after_in_parent=_wait_for_the_end_of_a_process, after_in_child=_begin_later)
    run()
