"""Texts of exceptions: always present, bounded, and storable.

Exceptions come from user code. Their ``__str__`` and ``__repr__`` may raise, return something else
than text, or return twenty megabytes. The functions here never raise; only :func:`first_line` may,
which is not for errors of user code.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice

from headrace.json_text import UNSTORABLE
from headrace.user_exit import UserExit

#: The default limit of a text in bytes of UTF-8.
MAX_BYTES = 32 * 1024
_MAX_NAME_BYTES = 200
#: A text names at most so many leaves of an exception group: a group may have thousands.
_MAX_LEAVES = 20
#: Messages of asyncio and anyio without information.
_STOCK = ("unhandled errors in a TaskGroup", "unhandled errors in a nursery")
#: What a text has in place of its middle.
_CUT = " [... cut from {} characters ...] "
_WAS_CUT = re.compile(re.escape(_CUT).replace(re.escape("{}"), r"(\d{1,20})"))


def error_name(error: BaseException) -> str:
    """The name of the error's class."""
    kind = type(_original(error))
    # Not by attribute: a metaclass may override ``__name__``.
    return clipped(type.__dict__["__name__"].__get__(kind), _MAX_NAME_BYTES)


def error_message(error: BaseException, *, max_bytes: int = MAX_BYTES) -> str:
    """The message of the error; for an exception group, the messages of its leaves.

    If ``str()`` fails, it is the ``repr()``; if that fails too, the name of the class.
    """
    error = _original(error)
    if not isinstance(error, BaseExceptionGroup):
        return _own_words(error, max_bytes)
    leaves = list(islice(_leaves(error), _MAX_LEAVES + 1))
    parts = [_named(leaf, max_bytes) for leaf in leaves[:_MAX_LEAVES]]
    if len(leaves) > _MAX_LEAVES:
        parts.append("and more")
    said = _text(lambda: error.message) or ""
    own = [] if said.startswith(_STOCK) else [clipped(said, max_bytes)]
    return clipped(": ".join([*own, "; ".join(parts)]), max_bytes)


def first_line(error: BaseException) -> str:
    """The first line of the message of an error; the class name if the message is empty.

    Only for errors of headrace and of libraries: the ``str()`` of others may raise. For an error of
    SQLAlchemy it is the first line of the driver's message.
    """
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__


def error_repr(error: object, *, max_bytes: int = MAX_BYTES) -> str:
    """The ``repr()`` of an object; if that fails, the name of its class."""
    if isinstance(error, BaseException):
        error = _original(error)
    said = _text(lambda: repr(error))
    return _name_alone(error) if said is None else clipped(said, max_bytes)


def value_text(value: object, *, max_bytes: int = MAX_BYTES) -> str:
    """``str()`` of any value; if that fails, the name of its class."""
    said = _text(lambda: str(value))
    return _name_alone(value) if said is None else clipped(said, max_bytes)


def clipped(text: str, max_bytes: int, *, whole: int | None = None) -> str:
    """The text without characters that cannot be stored. A long text loses its middle.

    :param whole: its characters, if it was cut before.
    """
    length = len(text)
    kept = text if length <= max_bytes else text[:max_bytes]
    kept = UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", kept)
    encoded = kept.encode()
    if length <= max_bytes and len(encoded) <= max_bytes:
        return kept
    end = UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text[-max_bytes:]).encode()
    note = _CUT.format(whole or length)
    half = max(0, max_bytes - len(note)) // 2
    tail = end[len(end) - half :].decode(errors="ignore") if half else ""
    return (encoded[:half].decode(errors="ignore") + note + tail)[:max_bytes]


def clipped_again(text: str, max_bytes: int) -> str:
    """As :func:`clipped`, for a text that may have been cut before: it tells its first length."""
    before = _WAS_CUT.search(text)
    return clipped(text, max_bytes, whole=None if before is None else int(before[1]))


def _original(error: BaseException) -> BaseException:
    return error.original if isinstance(error, UserExit) else error


def _own_words(error: BaseException, max_bytes: int) -> str:
    said = _text(lambda: str(error))
    return error_repr(error, max_bytes=max_bytes) if said is None else clipped(said, max_bytes)


def _named(error: BaseException, max_bytes: int) -> str:
    name, words = error_name(error), _own_words(_original(error), max_bytes)
    return f"{name}: {words}" if words else name


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The leaves in order, without recursion: groups may be nested deeply."""
    inside = BaseExceptionGroup.__dict__["exceptions"]
    waiting: list[BaseException] = [group]
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseExceptionGroup):
            # Not by attribute: a subclass may override ``exceptions``.
            waiting.extend(reversed(inside.__get__(error)))
        else:
            yield error


def _text(say: Callable[[], object]) -> str | None:
    """The result as a plain string; None if the call raises or returns no string."""
    said = None
    with suppress(BaseException):
        # User code may also raise SystemExit.
        said = say()
    # A subclass of str may have methods of its own.
    return str.__str__(said) if isinstance(said, str) else None


def _name_alone(value: object) -> str:
    kind = type.__dict__["__name__"].__get__(type(value))
    return f"<{clipped(kind, _MAX_NAME_BYTES)}>"
