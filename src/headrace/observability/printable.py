"""Text that a reader of the log can trust: it stays within its line, and moves no cursor.

Callers choose paths and graphs choose the words of their exceptions. A line feed among them would
begin a line that looks like one of ours, and an escape sequence would paint over what is there.
"""

import re
from collections.abc import Mapping
from typing import Any

from structlog.typing import EventDict, WrappedLogger

#: JSON escapes these itself.
_FIRST_CONTROLS = r"\x00-\x1f"
#: The second set, what else ends a line, and what turns the direction of writing.
_OTHERS = r"\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069"
_UNPRINTABLE = re.compile(f"[{_FIRST_CONTROLS}{_OTHERS}]")
_UNPRINTABLE_IN_JSON = re.compile(f"[{_OTHERS}]")
#: What has lines of its own: a traceback. They are indented, and ours are not.
_LINES = ("exception", "stack")
_INDENT = "    "


def printable(text: str) -> str:
    """``text`` with what a terminal or a reader of lines would obey in the form ``\\n``."""
    return _UNPRINTABLE.sub(_escaped, text) if _UNPRINTABLE.search(text) else text


def printable_json(line: str) -> str:
    """The same of a line of JSON, whose strings alone can have such characters."""
    return _UNPRINTABLE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def print_safely(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """structlog processor for forms that people read: all texts, the lines of a traceback kept."""
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
