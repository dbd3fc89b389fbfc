"""The watchdog of an event loop: a thread that names the code that blocks the loop, while it
blocks.

A graph that calls synchronous code holds up every other run and request of its process. Meanwhile
``worker.heartbeat`` still renews the lease, and gunicorn ends the process much later. The watchdog
logs at once where to look. Code that also holds the interpreter's lock, such as C code, stops this
thread too. Then the timer of ``server.process`` writes the frames: it needs no lock.
"""

import asyncio
import sys
import threading
import time
from dataclasses import dataclass
from types import FrameType
from typing import Any

import structlog

from headrace.error_text import value_text
from headrace.lifecycle import Supervision, Tasks
from headrace.observability.metrics import Metrics
from headrace.observability.user_code import is_installed

_log = structlog.stdlib.get_logger("headrace.watchdog")


@dataclass(frozen=True, slots=True)
class Blocked:
    """The frame where an event loop is blocked."""

    file: str
    line: int
    function: str
    #: The innermost frame; it may be in a library.
    innermost: str
    node: str | None = None
    run_id: str | None = None
    thread_id: str | None = None


class Watchdog:
    """Logs each stall of the loop that started it: while it lasts, and when it is over."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        stall_seconds: float,
        supervision: Supervision | None = None,
    ) -> None:
        self._metrics = metrics
        self._supervision = supervision or Supervision()
        self._stall_seconds = stall_seconds
        self._tick_seconds = min(0.25, stall_seconds / 4)
        self._seen = 0.0
        self._loop_thread = 0
        self._tasks = Tasks(self._supervision)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    async def start(self) -> None:
        self._seen = time.monotonic()
        self._loop_thread = threading.get_ident()
        self._tasks.keep(self._tick, name="watchdog-tick")
        self._thread = threading.Thread(target=self._watch, name="headrace-watchdog", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        await self._tasks.stop()
        self._stopped.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    async def _tick(self) -> None:
        while True:
            self._seen = time.monotonic()
            await asyncio.sleep(self._tick_seconds)

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._stopped.wait(self._tick_seconds):
            before, looked = looked, time.monotonic()
            seen = self._seen
            if looked - before > self._stall_seconds:
                # The whole process was paused, this thread too: no frame is to blame.
                _log.warning("process_paused", seconds=round(looked - before, 1))
            elif looked - seen > self._stall_seconds:
                try:
                    self._report(seen)
                except Exception as error:
                    # It reads frames of user code, where any value may raise.
                    _log.warning("stall_not_told", exc_info=True)
                    self._supervision.report("watchdog", error)
                while self._seen == seen and not self._stopped.wait(self._tick_seconds):
                    pass
                looked = time.monotonic()
                _log.warning("event_loop_unblocked", seconds=round(looked - seen, 1))

    def _report(self, seen: float) -> None:
        self._metrics.process.count_loop_stall()
        frame = sys._current_frames().get(self._loop_thread)
        if frame is None:
            return
        found = blocked_at(frame)
        _log.error(
            "event_loop_blocked",
            seconds=round(time.monotonic() - seen, 1),
            file=found.file,
            line=found.line,
            function=found.function,
            innermost=found.innermost,
            node=found.node,
            blocked_run_id=found.run_id,
            blocked_thread_id=found.thread_id,
        )


def blocked_at(frame: FrameType) -> Blocked:
    """The code that blocks: the innermost frame outside installed packages, else the innermost of
    all.
    """
    frames = _stack(frame)
    own = next((one for one in frames if not is_installed(one.f_code.co_filename)), frame)
    known = next((found for one in frames if (found := _metadata(one))), {})
    return Blocked(
        file=own.f_code.co_filename,
        line=own.f_lineno,
        function=own.f_code.co_qualname,
        innermost=f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}",
        node=_text(known.get("langgraph_node")),
        run_id=_text(known.get("run_id")),
        thread_id=_text(known.get("thread_id")),
    )


def _stack(frame: FrameType | None) -> list[FrameType]:
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _metadata(frame: FrameType) -> dict[str, Any]:
    """LangGraph's metadata of the running node: each of LangGraph's frames has a ``config``."""
    if not str(frame.f_globals.get("__name__", "")).startswith(("langgraph.", "langchain_core.")):
        return {}
    config = frame.f_locals.get("config")
    if not isinstance(config, dict):
        return {}
    metadata, configurable = config.get("metadata"), config.get("configurable")
    if not isinstance(metadata, dict) or "langgraph_node" not in metadata:
        return {}
    return {**(configurable if isinstance(configurable, dict) else {}), **metadata}


def _text(value: object) -> str | None:
    return None if value is None else value_text(value)
