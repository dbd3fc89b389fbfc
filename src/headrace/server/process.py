"""One server process: gunicorn's worker around headrace's uvicorn server.

It tells the master that it lives, from start-up to the last moment of a drain. It writes the
blocking frame before gunicorn kills it for silence, and it never outlives its master. The master
ignores its exit code, because user code may end the process with any code. It reports a failed
start in memory that it shares with the master.
"""

import asyncio
import contextlib
import faulthandler
import mmap
import os
import socket
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from gunicorn.arbiter import Arbiter
from uvicorn_worker import UvicornWorker

from headrace.containment import run_until_done
from headrace.edge.sockets import SocketBounds
from headrace.errors import StartupRefusal
from headrace.graphs.loader import import_refusal
from headrace.lifecycle import Tasks
from headrace.observability.logging import adopt_logger
from headrace.observability.process import return_large_blocks
from headrace.observability.slots import Slot, read_slots, slots_directory, write_slot
from headrace.server.connections import connections_of
from headrace.server.health_port import HealthPort
from headrace.server.own_secrets import mask_own, masked_refusal
from headrace.server.spread import ProcessPlace
from headrace.server.uvicorn import Server
from headrace.settings import Settings, runtime_dir
from headrace.worker.deaths import LifePlace, life_place

_log = structlog.stdlib.get_logger("headrace.process")

_NOTIFY_SECONDS = 1.0
#: All frames are written when this part of gunicorn's timeout has passed in silence.
_SILENCE_LOGGED_AT = 0.8
#: gunicorn kills at the graceful timeout. The shutdown must end this many seconds earlier. If it
#: hangs, a timer ends the process after half of them.
_EARLIER_THAN_KILL_SECONDS = 0.5
#: Threads of user code cannot be cancelled. After the shutdown they have this many seconds.
_THREADS_SECONDS = 1.0
#: Pause between a failed start and the next one, while other processes serve.
_RESPAWN_DELAY_SECONDS = 1.0
_FAILED = 1
_IP = (socket.AF_INET, socket.AF_INET6)
#: A failed process stops its master within this time. An older mark is of an earlier failure.
_MARK_SECONDS = 10.0


class ServerProcess(UvicornWorker):
    """The worker class of ``headrace serve``."""

    CONFIG_KWARGS = {  # noqa: RUF012 - the base class declares it so
        "loop": "uvloop",
        "http": "httptools",
        # Compression would cost more time than it saves on most networks.
        "ws_per_message_deflate": False,
        "lifespan": "on",
        "access_log": False,
        "server_header": False,
        # A task of our own notifies the master; it also runs during start-up and drain.
        "callback_notify": None,
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The base class added gunicorn's handlers to it.
        adopt_logger("uvicorn.error")
        #: Set in the master before the fork.
        self.start_failed: mmap.mmap | None = None
        self.place: ProcessPlace | None = None
        self.life_place: LifePlace | None = None
        self._ends_at: float | None = None
        self._refusal: StartupRefusal | None = None
        self._has_served = False
        self._has_failed = False

    def init_process(self) -> None:
        faulthandler.enable()
        return_large_blocks()
        if directory := runtime_dir():
            _announce(directory)
        try:
            super().init_process()  # type: ignore[no-untyped-call]
        except (Exception, SystemExit) as error:
            clean = isinstance(error, SystemExit) and not error.code
            if not self._has_served and not self._has_failed and not clean:
                # Perhaps user code, while it was imported. Else gunicorn logs the reason next.
                self._start_failed()
            raise

    def run(self) -> None:
        with asyncio.Runner(loop_factory=self.config.get_loop_factory()) as runner:
            loop = runner.get_loop()
            run_until_done(loop, self._serve())

    def load_wsgi(self) -> None:
        try:
            super().load_wsgi()  # type: ignore[no-untyped-call]
        except StartupRefusal as refusal:
            self._refuse(refusal)
            sys.exit(self._start_failed())
        except BaseException as error:
            # A user's app (`serve --app`) may do anything while it is imported.
            _log.error("app_import_failed", exc_info=error)
            self._refuse(import_refusal(f"app {self.app.app_uri}", error))
            sys.exit(self._start_failed())

    async def _serve(self) -> None:
        settings = Settings()
        self.config.app = SocketBounds(self.wsgi, settings)
        # Not gunicorn's wrappers: uvloop closes those twice and logs "Error while closing socket".
        sockets = [getattr(one, "sock", one) for one in self.sockets]
        self.config.ws_max_size = settings.server.max_body_bytes
        # As streams: a client that does not answer pings is gone.
        self.config.ws_ping_interval = settings.server.ping_seconds
        self.config.ws_ping_timeout = settings.server.unread_timeout_seconds
        # uvicorn takes the last address of X-Forwarded-For that is no trusted proxy. Without a
        # list it would trust 127.0.0.1, or what FORWARDED_ALLOW_IPS names.
        self.config.forwarded_allow_ips = [str(one) for one in settings.edge.proxy_networks]
        health_port = _health_port(settings, sockets)
        connections = connections_of(settings)
        if self.place is not None:
            connections.publish_in(self.place)
        server = Server(
            self.config,
            shutdown_seconds=self.cfg.graceful_timeout - _EARLIER_THAN_KILL_SECONDS,
            on_shutdown=self._must_end_by,
            on_refusal=self._refuse,
            connections=connections,
            health_port=health_port,
            place=self.place,
        )
        # The lifespan of the app reads it.
        life_place.set(self.life_place)
        tasks = Tasks()
        tasks.start(connections.look_after(), name="connections")
        tasks.keep(partial(self._live, server), name="process-live")
        try:
            await server.serve(sockets=sockets)
        except SystemExit:
            sys.exit(self._start_failed())
        finally:
            await tasks.stop()
            faulthandler.cancel_dump_traceback_later()
        self._has_served = server.started
        if not server.started:
            sys.exit(self._start_failed())
        _leave_threads_behind()

    async def _live(self, server: Server) -> None:
        """Tell the master each second that the loop runs. Begin the end of this process when the
        master has gone, or when this process has to be replaced.
        """
        while True:
            self.notify()  # type: ignore[no-untyped-call]
            self._watch_for_silence()
            if os.getppid() != self.ppid and not server.should_exit:
                _log.error("master_gone")
                server.should_exit = True
            server.stop_if_unfit()
            await asyncio.sleep(_NOTIFY_SECONDS)

    def _watch_for_silence(self) -> None:
        """Write the frames of all threads to stderr unless this is called again in time. A C thread
        does it.

        Its timer also ends the process if a shutdown takes too long.
        """
        silence = self.cfg.timeout * _SILENCE_LOGGED_AT if self.cfg.timeout else float("inf")
        left = float("inf")
        if self._ends_at is not None:
            left = max(0.1, self._ends_at - asyncio.get_running_loop().time())
        if min(silence, left) < float("inf"):
            faulthandler.dump_traceback_later(min(silence, left), exit=left <= silence)

    def _must_end_by(self, loop_time: float) -> None:
        self._ends_at = loop_time + _EARLIER_THAN_KILL_SECONDS / 2
        self._watch_for_silence()

    def _refuse(self, refusal: StartupRefusal) -> None:
        self._refusal = refusal

    def _start_failed(self) -> int:
        """Print why this process does not start.

        If other processes of the master serve, they go on, and gunicorn starts this one again.
        Otherwise the first process to fail prints the reason and stops the master; the others only
        end.

        :returns: the exit code, for people: the master ignores it.
        """
        self._has_failed = True
        others_serve = any(
            slot.state == "serving" and slot.pid != os.getpid() and slot.master == self.ppid
            for slot in self._slots()
        )
        speaks = others_serve or self._is_first_to_fail()
        if speaks and self._refusal is not None:
            # The reader of stderr may have gone. The master must still learn of the failure.
            with contextlib.suppress(OSError):
                mask_own()
                sys.stderr.write(f"{masked_refusal(self._refusal)}\n")
                sys.stderr.flush()
        if others_serve:
            _log.error("process_start_failed", next_try_seconds=_RESPAWN_DELAY_SECONDS)
            time.sleep(_RESPAWN_DELAY_SECONDS)
            return _FAILED
        if speaks and self.start_failed is not None:
            self.start_failed[0] = 1
        if not speaks:
            # The master must learn of the first failure first, or it tries this process again.
            time.sleep(_RESPAWN_DELAY_SECONDS)
        return int(Arbiter.WORKER_BOOT_ERROR) if speaks else _FAILED

    def _slots(self) -> list[Slot]:
        directory = runtime_dir()
        return read_slots(directory) if directory is not None else []

    def _is_first_to_fail(self) -> bool:
        directory = runtime_dir()
        if directory is None:
            return True
        mark = slots_directory(directory) / f"refused-{self.ppid}"
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            # An older mark is of a failure that did not stop this master.
            return time.time() - mark.stat().st_mtime > _MARK_SECONDS
        except OSError:
            return True
        return True


def _health_port(settings: Settings, sockets: list[socket.socket]) -> HealthPort | None:
    """Let the health port answer on one of ``sockets``; that socket is removed from the list."""
    if not settings.metrics.port:
        return None
    for one in sockets:
        if one.family in _IP and one.getsockname()[1] == settings.metrics.port:
            sockets.remove(one)
            port = HealthPort(one)
            port.start()
            return port
    return None


def _announce(directory: Path) -> None:
    """Publish a status slot before the application is imported. A draining process then waits until
    this one serves.
    """
    now = time.time()
    with contextlib.suppress(OSError):
        write_slot(
            directory,
            Slot(
                pid=os.getpid(),
                master=os.getppid(),
                state="starting",
                started_at=now,
                written_at=now,
            ),
        )


def _leave_threads_behind() -> None:
    """End the process soon, even if a thread of user code still runs. Everything else is closed by
    now.
    """
    timer = threading.Timer(_THREADS_SECONDS, os._exit, args=(0,))
    timer.daemon = True
    timer.start()
