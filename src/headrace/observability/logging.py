"""Logs: JSON lines, or a form for terminals; headrace's loggers and all others write in one format.

Importing this configures nothing: a process calls ``configure_logging`` at its start. Before a line
is written, secrets in it are masked (``masking.py``), in tracebacks too.
"""

import json
import logging
import re
import sys
from collections.abc import Sequence
from types import FunctionType
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from headrace.error_text import clipped, value_text
from headrace.observability.masking import is_plain, mask_secrets
from headrace.observability.printable import print_safely, printable_json
from headrace.observability.short_lines import ShortFilter, ShortRenderer, shorten_exception
from headrace.observability_settings import ObservabilitySettings
from headrace.settings import colors_welcome

#: Loggers with handlers of their own. Those handlers are removed, so that each line is written once
#: and in our format.
_ADOPTED = ("uvicorn", "uvicorn.error", "gunicorn", "gunicorn.error", "alembic", "psycopg.pool")
#: The HTTP middleware writes the access log.
_SILENCED = ("uvicorn.access", "gunicorn.access")

_POOLS_NOISE = re.compile(
    r"error connecting in|reconnection attempt in|discarding (closed|broken)|rolling back returned"
    r"|error rolling back|closing returned|error resetting"
)
_SOCKET_REFUSED = "ASGI callable returned without completing handshake."
_SOCKETS_NOISE = re.compile(r'%s - "WebSocket |connection (open|closed)')


def configure_logging(settings: ObservabilitySettings, *, stream: TextIO | None = None) -> None:
    """Route structlog and the standard library's root logger to ``stream``, default stderr.

    May be called again, in the same process or after a fork; the last call wins.
    """
    target = stream if stream is not None else sys.stderr
    console = settings.log_format == "console" or (
        settings.log_format == "auto" and target.isatty()
    )
    handler = logging.StreamHandler(target)
    colors = target.isatty() and colors_welcome()
    finishing = _finishing(
        console=console, colors=console and colors, max_text_bytes=settings.max_log_text_bytes
    )
    if settings.log_format == "short":
        handler.addFilter(ShortFilter())
        handler.setFormatter(_short_formatter(colors=colors))
    else:
        handler.setFormatter(_formatter(finishing))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for name in _ADOPTED:
        adopt_logger(name)
    pool_log = logging.getLogger("psycopg.pool")
    if _is_logged_of_pool not in pool_log.filters:
        pool_log.addFilter(_is_logged_of_pool)
    socket_log = logging.getLogger("uvicorn.error")
    if _is_logged_of_uvicorn not in socket_log.filters:
        socket_log.addFilter(_is_logged_of_uvicorn)
    for name in _SILENCED:
        silenced = logging.getLogger(name)
        silenced.handlers = []
        silenced.propagate = False
    short = settings.log_format == "short"
    _configure_structlog(
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter
        if short
        else _LineWriter(handler, finishing),
        short=short,
    )


def configure_library_logging() -> None:
    """Write events to the handlers of a user's app, which stay as they are.

    Does nothing if the app configured structlog itself.
    """
    if not structlog.is_configured():
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.PositionalArgumentsFormatter(),
                mask_secrets,
                structlog.processors.KeyValueRenderer(key_order=["event"]),
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
            logger_factory=structlog.stdlib.LoggerFactory(),
            cache_logger_on_first_use=True,
        )


def _is_logged_of_pool(record: logging.LogRecord) -> bool:
    """Whether to log this record of the pool.

    False for a lost connection: ``database_lost`` is logged once, but the pool would log each
    connection and each attempt.
    """
    return not (record.levelno <= logging.WARNING and _POOLS_NOISE.match(str(record.msg)))


def _is_logged_of_uvicorn(record: logging.LogRecord) -> bool:
    """False for the opening of a WebSocket: ``socket_ended`` and ``socket_refused`` tell of it, in
    our form. A refusal with a body is an error to uvicorn; any stranger can cause it, so it becomes
    an info. It is kept, because a WebSocket of an app that only returns causes it too.
    """
    if record.msg == _SOCKET_REFUSED:
        record.levelno, record.levelname = logging.INFO, "INFO"
    return not (record.levelno <= logging.INFO and _SOCKETS_NOISE.match(str(record.msg)))


def adopt_logger(name: str) -> None:
    """Let a logger of the standard library write through the root logger only."""
    logger = logging.getLogger(name)
    logger.handlers = []
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


def _formatter(finishing: Sequence[Processor]) -> logging.Formatter:
    """For records of other libraries, and for ours when others listen to the log too."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared_processors(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            # Before masking, so that a password in a traceback is masked too.
            structlog.processors.format_exc_info,
            *finishing,
        ],
    )


def _finishing(*, console: bool, colors: bool, max_text_bytes: int) -> list[Processor]:
    """From an event with its time, its level and its traceback to the text of the line."""
    masked = _Masked(max_text_bytes)
    if console:
        return [
            masked,
            print_safely,
            structlog.dev.ConsoleRenderer(
                colors=colors, exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    return [masked, structlog.processors.JSONRenderer(serializer=_to_json)]


class _Masked:
    """structlog processor: masks secrets, and bounds the length of texts, tracebacks included."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        if is_plain(event, self._max_bytes):
            return event
        # Masking reads the whole text, so bound it first. The cut may leave half a password, which
        # masking does not recognise. It stands in the middle: the second cut removes it.
        event = mask_secrets(logger, method, _clipped(event, 2 * self._max_bytes))
        return _clipped(event, self._max_bytes)


def _clipped(event: EventDict, max_bytes: int) -> EventDict:
    for key, value in event.items():
        if isinstance(value, str) and len(value) > max_bytes:
            event[key] = clipped(value, max_bytes)
    return event


class _LineWriter:
    """structlog processor, the last one: writes the line at once, if nobody but our handler would
    get the record.

    A record of the standard library costs more than the line. It is made only if the user's code
    has added handlers or filters, has changed our handler, or has put its own functions into the
    standard library, as collectors of errors do.
    """

    def __init__(
        self, handler: "logging.StreamHandler[TextIO]", finishing: Sequence[Processor]
    ) -> None:
        self._handler = handler
        self._formatter = handler.formatter
        self._finishing = finishing

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> Any:
        if not self._is_alone(logger):
            return structlog.stdlib.ProcessorFormatter.wrap_for_formatter(logger, method, event)
        try:
            line: Any = event
            for processor in self._finishing:
                line = processor(logger, method, line)
            self._write(line)
        except (OSError, ValueError, RuntimeError):
            # RuntimeError: a signal handler logs while the stream is being written.
            self._handler.handleError(
                logging.LogRecord(logger.name, logging.ERROR, "", 0, event, None, None)
            )
        raise structlog.DropEvent

    def _is_alone(self, logger: logging.Logger) -> bool:
        handler = self._handler
        if logger.filters or handler.filters or handler.level:
            return False
        if handler.formatter is not self._formatter or not _is_untouched(type(logger)):
            return False
        listening: logging.Logger | None = logger
        found = False
        while listening is not None:
            if listening.handlers:
                if found or listening.handlers != [handler]:
                    return False
                found = True
            listening = listening.parent if listening.propagate else None
        return found

    def _write(self, line: str) -> None:
        handler = self._handler
        handler.acquire()
        try:
            handler.stream.write(line + handler.terminator)
            handler.flush()
        finally:
            handler.release()


def _is_untouched(kind: type[logging.Logger]) -> bool:
    """Whether the standard library itself handles the records of such loggers. Sentry, for one,
    adds no handler: it replaces ``callHandlers``.
    """
    return all(
        isinstance(method, FunctionType) and method.__globals__ is vars(logging)
        for method in (kind.makeRecord, kind.handle, kind.callHandlers)
    )


def _short_formatter(*, colors: bool) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared_processors(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            shorten_exception,
            mask_secrets,
            print_safely,
            ShortRenderer(colors=colors),
        ],
    )


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _configure_structlog(last: Processor, *, short: bool) -> None:
    # Change the list in place: loggers that were used before keep this list.
    processors = structlog.get_config()["processors"] if structlog.is_configured() else []
    processors[:] = [
        structlog.stdlib.filter_by_level,
        *_shared_processors(),
        # Format the exception here, so that no other handler gets the object: repr() of an
        # exception from user code may raise, or be megabytes long.
        shorten_exception if short else structlog.processors.format_exc_info,
        last,
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _to_json(event: Any, **_options: Any) -> str:
    try:
        line = orjson.dumps(event, default=value_text, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # A value that JSON cannot hold, such as half a surrogate pair or an integer of more than 64
        # bits: replace the value and keep the line.
        return json.dumps(event, default=value_text, skipkeys=True)
    return printable_json(line)
