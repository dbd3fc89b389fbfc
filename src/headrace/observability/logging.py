"""Logs: JSON lines, or a form for people on a terminal; one format for our own and others' loggers.

Nothing is configured at import: whoever starts a process calls ``configure_logging``. Passwords in
URLs and fields that are named like secrets are masked last, tracebacks included.
"""

import json
import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from headrace.error_text import clipped, value_text
from headrace.observability.short_lines import ShortFilter, ShortRenderer, shorten_exception
from headrace.setting_groups import ObservabilitySettings
from headrace.settings import colors_welcome

#: Loggers that bring handlers of their own; theirs are dropped, so that lines come once, our way.
_ADOPTED = ("uvicorn", "uvicorn.error", "gunicorn", "gunicorn.error", "alembic", "psycopg.pool")
#: The HTTP middleware writes the access log.
_SILENCED = ("uvicorn.access", "gunicorn.access")

_POOLS_NOISE = re.compile(
    r"error connecting in|reconnection attempt in|discarding (closed|broken)|rolling back returned"
    r"|error rolling back|closing returned|error resetting"
)

_WORD = re.compile(r"\S+")
_URL_USER = re.compile(r"(?i)(https?)?://[^:/?#\s@]*:")
_PORT = re.compile(r"\d+(?:/|$)")
_NAMED_PASSWORD = re.compile(
    r"(?i)\b(\w*(?:password|passwd|pwd))(['\"]?\s*[=:]\s*)"
    r"('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\s&'\",}]+)"
)
_SECRET_FIELD = re.compile(
    r"(?i)^(.*_)?(password|passwd|secret|token|api_?key|authorization|cookie)$"
)
_MASK = "***"


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
    if _is_told_of_pool not in pool_log.filters:
        pool_log.addFilter(_is_told_of_pool)
    for name in _SILENCED:
        silenced = logging.getLogger(name)
        silenced.handlers = []
        silenced.propagate = False
    _configure_structlog(short=settings.log_format == "short")


def configure_library_logging() -> None:
    """For an app that has logging of its own: events go there; no handler is touched.

    Does nothing when the app configured structlog itself.
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


def _is_told_of_pool(record: logging.LogRecord) -> bool:
    """Not what `database_lost` says once: the pool says it for each connection and each attempt."""
    return not (record.levelno <= logging.WARNING and _POOLS_NOISE.match(str(record.msg)))


def adopt_logger(name: str) -> None:
    """Let a logger of the standard library write through the root logger only."""
    logger = logging.getLogger(name)
    logger.handlers = []
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


def mask_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """structlog processor: no password of a URL or DSN, no field named like a secret."""
    return {key: _masked(key, value) for key, value in event.items()}


def mask_text(text: str) -> str:
    """``text`` with the passwords of URLs, DSNs and written-out mappings replaced by ``***``."""
    if "://" in text:
        text = _WORD.sub(_without_url_password, text)
    lowered = text.lower()
    if "pass" in lowered or "pwd" in lowered:
        text = _NAMED_PASSWORD.sub(rf"\1\2{_MASK}", text)
    return text


def _without_url_password(word: re.Match[str]) -> str:
    """Masked to the last @, because people write passwords unencoded; http://host:80/ is a port.

    By hand, because a pattern that looks for the last @ takes quadratic time on a hostile text.
    """
    text = word[0]
    last = text.rfind("@")
    for user in _URL_USER.finditer(text):
        if user.end() <= last and not (user[1] and _PORT.match(text, user.end())):
            return f"{text[: user.end()]}{_MASK}{text[last:]}"
    return text


def _masked(key: str, value: Any) -> Any:
    if key.startswith("_"):
        return value  # structlog's own: the record, its origin
    if value is not None and _SECRET_FIELD.match(key):
        return _MASK
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, Mapping):
        return {str(name): _masked(str(name), item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked("", item) for item in value]
    if isinstance(value, int | float | bool) or value is None:
        return value
    return mask_text(value_text(value))


def _formatter(*, console: bool, colors: bool, max_text_bytes: int) -> logging.Formatter:
    renderer: Processor
    if console:
        renderer = structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback
        )
    else:
        renderer = structlog.processors.JSONRenderer(serializer=_to_json)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared_processors(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            # Before the mask, so that a password in a traceback is masked too.
            structlog.processors.format_exc_info,
            # The mask reads every word of the text. What it would not know for a password, because
            # it is cut there, lies in the middle and is cut out afterwards.
            _Clip(2 * max_text_bytes),
            mask_secrets,
            _Clip(max_text_bytes),
            renderer,
        ],
    )


class _Clip:
    """structlog processor: texts of bounded length, tracebacks among them."""

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
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared_processors(),
            # Here, so that no other handler of the record meets the exception itself: the repr() of
            # one from user code may raise, or be megabytes long.
            shorten_exception if short else structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _to_json(event: Any, **_options: Any) -> str:
    try:
        return orjson.dumps(event, default=value_text, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # Half a surrogate pair, an integer of more than 64 bits: the line is worth more than they.
        return json.dumps(event, default=value_text, skipkeys=True)
