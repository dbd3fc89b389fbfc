"""Makes text safe for a reader of the log: it stays within its line and moves no cursor.

Callers choose paths, and graphs choose the texts of their exceptions. A line feed in them would
begin a line that looks like one of ours, and an escape sequence would overwrite other text.
"""

import re
from collections.abc import Mapping
from typing import Any

from structlog.typing import EventDict, WrappedLogger

#: JSON escapes these itself.
_FIRST_CONTROLS = r"\x00-\x1f"
#: The second set of control characters, other line ends, and marks that change the direction of
#: writing.
_OTHERS = r"\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069"
_UNPRINTABLE = re.compile(f"[{_FIRST_CONTROLS}{_OTHERS}]")
_UNPRINTABLE_IN_JSON = re.compile(f"[{_OTHERS}]")
#: Fields with lines of their own: tracebacks. Those lines are indented; log lines are not.
_LINES = ("exception", "stack")
_INDENT = "    "


def printable(text: str) -> str:
    """``text`` with its control characters and line ends escaped, in the form ``\\n``."""
    return _UNPRINTABLE.sub(_escaped, text) if _UNPRINTABLE.search(text) else text


def printable_json(line: str) -> str:
    """A line of JSON with such characters escaped; only its strings can have them."""
    return _UNPRINTABLE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def print_safely(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """structlog processor for forms that people read: makes all texts safe, and keeps the lines of
    a traceback.
    """
    return {
        key: _lines(value) if key in _LINES and isinstance(value, str) else _safe(value)
        for key, value in event.items()
    }


def _lines(text: str) -> str:
    return "\n".join(_INDENT + printable(line) for line in text.split("\n"))


def _safe(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(str(key)): _safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_safe(item) for item in value]
    return value


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
