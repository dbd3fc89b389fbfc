"""Logs: JSON lines, or a form for terminals; headrace's loggers and all others write in one format.

Importing this configures nothing: a process calls ``configure_logging`` at its start. Before a line
is written, secrets in it are masked (``masking.py``), in tracebacks too.
"""

import json
import logging
import re
import sys
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from headrace.error_text import clipped, value_text
from headrace.observability.masking import mask_secrets
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
    if settings.log_format == "short":
        handler.addFilter(ShortFilter())
        handler.setFormatter(_short_formatter(colors=colors))
    else:
        handler.setFormatter(
            _formatter(
                console=console,
                colors=console and colors,
                max_text_bytes=settings.max_log_text_bytes,
            )
        )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for name in _ADOPTED:
        adopt_logger(name)
    pool_log = logging.getLogger("psycopg.pool")
    if _is_logged_of_pool not in pool_log.filters:
        pool_log.addFilter(_is_logged_of_pool)
    for name in _SILENCED:
        silenced = logging.getLogger(name)
        silenced.handlers = []
        silenced.propagate = False
    _configure_structlog(short=settings.log_format == "short")


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


def adopt_logger(name: str) -> None:
    """Let a logger of the standard library write through the root logger only."""
    logger = logging.getLogger(name)
    logger.handlers = []
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


def _formatter(*, console: bool, colors: bool, max_text_bytes: int) -> logging.Formatter:
    renderers: list[Processor]
    if console:
        renderers = [
            print_safely,
            structlog.dev.ConsoleRenderer(
                colors=colors, exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    else:
        renderers = [structlog.processors.JSONRenderer(serializer=_to_json)]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared_processors(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            # Before masking, so that a password in a traceback is masked too.
            structlog.processors.format_exc_info,
            # Masking reads the whole text, so bound it first. The cut may leave half a password,
            # which masking does not recognise. It stands in the middle: the second cut removes it.
            _Clip(2 * max_text_bytes),
            mask_secrets,
            _Clip(max_text_bytes),
            *renderers,
        ],
    )


class _Clip:
    """structlog processor that bounds the length of texts, tracebacks included."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        for key, value in event.items():
            if isinstance(value, str) and len(value) > self._max_bytes:
                event[key] = clipped(value, self._max_bytes)
        return event


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


def _configure_structlog(*, short: bool) -> None:
    # Change the list in place: loggers that were used before keep this list.
    processors = structlog.get_config()["processors"] if structlog.is_configured() else []
    processors[:] = [
        structlog.stdlib.filter_by_level,
        *_shared_processors(),
        # Format the exception here, so that no other handler gets the object: repr() of an
        # exception from user code may raise, or be megabytes long.
        shorten_exception if short else structlog.processors.format_exc_info,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
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
