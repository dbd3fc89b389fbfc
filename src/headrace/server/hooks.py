"""gunicorn's hooks in its master: stop when no process can start, and clean up. Hook functions
only.

An exception here would end the master. So trouble with files is logged, and the master goes on.

The server's own modules are imported here, before the fork: processes share their memory, and a
process that is started again need not import them. The user's graphs are not imported here: each
process imports them anew.
"""

import gc
import mmap
import shutil
from typing import Any

from gunicorn.errors import HaltServer
from prometheus_client.multiprocess import mark_process_dead

import headrace.server.app  # noqa: F401 - for its side effect on memory and start, see above
from headrace.observability.metric_files import fold_files_of_dead
from headrace.observability.slots import remove_slot, slots_directory
from headrace.server.gunicorn import SHARED, TEMPORARY
from headrace.server.spread import Spread
from headrace.settings import multiprocess_dir, opentelemetry_variables, runtime_dir
from headrace.tracing.opened_tracer import import_opentelemetry
from headrace.worker.deaths import Deaths

#: A value that no exit code has.
_NEVER = -1
#: New objects, less those that are gone, after which Python looks for garbage in cycles.
_YOUNG_OBJECTS = 10_000
#: The master's own exit code when no process can start, as gunicorn defines it.
_BOOT_ERROR = 3


def on_starting(server: Any) -> None:
    """Clear the board: a fresh master has no processes yet, so the slots are of an earlier one.

    gunicorn stops when a process exits with 3 or 4, its own codes for a failed start. Any library
    in user code may exit with these while the process serves. So the master ignores exit codes, and
    a process whose start has failed reports that in another way (``pre_fork``).
    """
    server.WORKER_BOOT_ERROR = server.APP_LOAD_ERROR = _NEVER
    # Shared with the processes: one of them sets it when no process can start.
    server.headrace_start_failed = mmap.mmap(-1, 1)
    server.headrace_spread = Spread()
    server.headrace_deaths = Deaths()
    directory = runtime_dir()
    # A master that replaces a living master (USR2, headrace dev) finds processes of that master.
    if directory is None or server.master_pid != 0 or (directory / SHARED).exists():
        return
    try:
        for path in slots_directory(directory).glob("*"):
            path.unlink(missing_ok=True)
    except OSError as error:
        server.log.warning("status slots of an earlier start not removed: %s", error)


def when_ready(server: Any) -> None:
    """Freeze what was imported so far: it lives for ever, so the garbage collector need not look at
    it.

    Otherwise each process would copy those pages after the fork, and walk through all of them at
    its end. From TERM to the end of an idle pod takes 0.9 s with this, and 2.2 s without.
    """
    import_opentelemetry(opentelemetry_variables())
    gc.collect()
    gc.freeze()
    # Many runs at once keep many young objects alive: with Python's default of 700, each collection
    # walks through them for almost no garbage.
    gc.set_threshold(_YOUNG_OBJECTS)


def pre_fork(server: Any, worker: Any) -> None:
    """Give the process a place among those that share the listening sockets, and one where it notes
    under which ids its runs begin.

    :raises HaltServer: an earlier process has reported that no process can start. ``child_exit``
        cannot do this: gunicorn before 24 calls it in a signal handler, and forgets what is raised
        there during a fork, and the end of a process that it has just forked.
    """
    if server.headrace_start_failed[0]:
        raise HaltServer(  # type: ignore[no-untyped-call]
            "Worker failed to boot.", _BOOT_ERROR
        )
    worker.start_failed = server.headrace_start_failed
    worker.place = server.headrace_spread.free_place(_taken(server, "place"))
    worker.life_place = server.headrace_deaths.free_place(_taken(server, "life_place"))


def on_exit(server: Any) -> None:
    """Remove what ``headrace serve`` made for this master alone."""
    directory = runtime_dir()
    # A master that was replaced (USR2) leaves the directory to its successor.
    last = server.reexec_pid == 0
    if last and directory is not None and (directory / TEMPORARY).exists():
        shutil.rmtree(directory, ignore_errors=True)


def child_exit(server: Any, worker: Any) -> None:
    """Tell the others of the end of a process, take it off the board, and fold its metric files."""
    if life_place := getattr(worker, "life_place", None):
        life_place.end()
    if place := getattr(worker, "place", None):
        place.leave()
    try:
        if directory := runtime_dir():
            remove_slot(directory, worker.pid)
        if metrics := multiprocess_dir():
            mark_process_dead(worker.pid, path=str(metrics))  # type: ignore[no-untyped-call]
            fold_files_of_dead(metrics)
    except OSError as error:
        server.log.warning("leftovers of process %s not removed: %s", worker.pid, error)


def _taken(server: Any, name: str) -> list[int]:
    """The indexes of the places that living processes have."""
    places = (getattr(one, name, None) for one in server.WORKERS.values())
    return [place.index for place in places if place is not None]
