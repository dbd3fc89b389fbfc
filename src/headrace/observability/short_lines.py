"""The log of ``headrace dev``: short lines with what the author of a graph wants to see.

A request is one line. A failed run is its error with the user's own frames. Events of the server
itself are shown only if they are warnings. Ids are shortened to their last eight digits: the first
digits are a time, and runs of one minute share them.
"""

import logging
import re
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from structlog.typing import EventDict, WrappedLogger

from headrace.observability.user_code import short_traceback

_UUID = re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{4}([0-9a-fA-F]{8})\b")

#: Libraries whose info lines are about the server, not about graphs.
_MACHINERY = ("gunicorn", "uvicorn", "alembic", "headrace", "psycopg", "asyncio")
#: headrace's info events that are shown all the same.
_TOLD = frozenset({"request_answered", "database_found", "schema_fit_again"})
#: gunicorn's lines about a process that does not start: the process has printed the reason itself.
_SAID_BEFORE = re.compile(r"Worker \(pid:\d+\) exited with code [13]\.$|Reason: Worker failed")

#: Fields that every event has, or that the first words of the line show.
_LEFT_OUT = frozenset(
    {"event", "exception", "level", "logger", "request_id", "stack", "timestamp", "run_id"}
)
_MOST_VALUE_CHARACTERS = 160
#: A failed run is shown with its error, so its end is not shown. The filter remembers so many.
_FAILED_KEPT = 256

_RESET, _BOLD, _DIM = "\x1b[0m", "\x1b[1m", "\x1b[2m"
_RED, _GREEN, _YELLOW, _CYAN = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m"
_LEVEL_COLORS = {"warning": _YELLOW, "error": _RED, "critical": _RED}


class ShortFilter(logging.Filter):
    """Which records are shown; a filter for the log's handler."""

    def __init__(self) -> None:
        super().__init__()
        self._failed: deque[str] = deque(maxlen=_FAILED_KEPT)

    def filter(self, record: logging.LogRecord) -> bool:
        event = record.msg if isinstance(record.msg, Mapping) else {}
        name = event.get("event")
        if name == "run_failed":
            self._failed.append(str(event.get("run_id")))
        if name == "run_ended":
            # The end of a successful run is in the line of its request.
            return event["status"] != "success" and str(event.get("run_id")) not in self._failed
        if record.levelno <= logging.INFO and record.name.startswith(_MACHINERY):
            return name in _TOLD
        return not (record.name == "gunicorn.error" and _SAID_BEFORE.match(record.getMessage()))


def shorten_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """structlog processor that puts the user's frames in place of ``exc_info``."""
    found = event.pop("exc_info", None)
    error = found[1] if isinstance(found, tuple) else found
    if error and not isinstance(error, BaseException):
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["exception"] = short_traceback(error)
    return event


class ShortRenderer:
    """structlog's last processor: one event as a line, with an exception below it."""

    def __init__(self, *, colors: bool) -> None:
        self._colors = colors

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> str:
        name = event.get("event")
        if name == "request_answered":
            words = self._request(event)
        elif name == "run_failed":
            words = self._paint(f"{_run(event)} failed", _RED)
        elif name == "run_ended":
            words = self._run_ended(event)
        else:
            words = self._other(event)
        clock = self._paint(time.strftime("%H:%M:%S"), _DIM)
        lines = [f"{clock} {words}"]
        for part in ("exception", "stack"):
            if event.get(part):
                lines += [f"     {line}" for line in str(event[part]).split("\n")]
        return "\n".join(lines)

    def _request(self, event: EventDict) -> str:
        status = int(event["status"])
        color = (_GREEN, _CYAN, _YELLOW, _RED)[min(max(status // 100, 2), 5) - 2]
        words = [
            self._paint(f"{event['method']:<6}", _BOLD),
            short_ids(str(event["path"])),
            self._paint(str(status), color),
            self._paint(_milliseconds(float(event["seconds"])), _DIM),
        ]
        if cause := event.get("cut") or event.get("code"):
            words.append(self._paint(str(cause), color))
        if event.get("run_id"):
            words.append(self._paint(_run(event), _DIM))
        return " ".join(words)

    def _run_ended(self, event: EventDict) -> str:
        status = str(event.get("status"))
        error = f": {event['error']}" if event.get("error") else ""
        color = _RED if status in ("error", "timeout") else _YELLOW
        took = _milliseconds(float(event.get("seconds") or 0))
        return f"{self._paint(f'{_run(event)} {status}', color)} {took}{error}"

    def _other(self, event: EventDict) -> str:
        level = str(event.get("level", "info"))
        name = str(event.get("event"))
        ours = str(event.get("logger", "")).startswith("headrace")
        words = [self._paint(level, _LEVEL_COLORS[level])] if level in _LEVEL_COLORS else []
        words.append(name.replace("_", " ") if ours else name)
        if event.get("run_id"):
            words.append(_run(event))
        for key, value in event.items():
            if key not in _LEFT_OUT and value is not None:
                words.append(self._paint(f"{key}=", _DIM) + _short(value))
        return " ".join(words)

    def _paint(self, text: str, color: str) -> str:
        return f"{color}{text}{_RESET}" if self._colors else text


def short_ids(text: str) -> str:
    """``text`` with each UUID replaced by its last eight digits."""
    return _UUID.sub(r"\1", text)


def _run(event: EventDict) -> str:
    return f"run {short_ids(str(event['run_id']))}" if event.get("run_id") else "run"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"


def _short(value: Any) -> str:
    text = short_ids(str(value)).replace("\n", " ")
    cut = len(text) > _MOST_VALUE_CHARACTERS
    return f"{text[:_MOST_VALUE_CHARACTERS]}..." if cut else text
