"""The user's own frames of a traceback: what a person wants to see first.

Installed packages, the standard library and headrace itself are not the user's.
"""

import os
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

from headrace.error_text import error_message

#: Folders of installed code and of headrace, an editable install included.
_INSTALLED = tuple(
    {f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib", "purelib")}
    | {f"{os.sep}site-packages{os.sep}", f"{Path(__file__).parents[1]}{os.sep}"}
)

#: At most this many causes are shown.
_MOST_LINKS = 4
#: Leaves of an exception group that are shown.
_MOST_LEAVES = 3
#: A message of more bytes is cut on the screen. The run's row keeps more of it.
_MAX_BYTES = 2000


def is_installed(path: str) -> bool:
    """Whether this file is installed code, and not the user's."""
    return path.startswith("<") or any(part in path for part in _INSTALLED)


def fault_place(error: BaseException) -> str:
    """The place in the user's files where the error was raised, like ``graph.py line 12``; empty if
    no frame is in them.

    For a ``SyntaxError`` it is the line with the mistake, not the line that imports the file.
    """
    wrong = error.filename if isinstance(error, SyntaxError) else None
    if isinstance(error, SyntaxError) and wrong and not is_installed(wrong):
        return f"{_short_path(wrong)} line {error.lineno}"
    for frame in reversed(_frames(error)):
        if not is_installed(frame.filename):
            return f"{_short_path(frame.filename)} line {frame.lineno}"
    return ""


def described(error: BaseException) -> str:
    """``ValueError: the first line``; also for an error whose ``__str__`` raises."""
    name = type(error).__name__
    line = _message(error).strip().partition("\n")[0].strip()
    return f"{name}: {line}" if line else name


def short_traceback(error: BaseException) -> str:
    """The error and its causes, with the user's frames of each; a source line below each frame."""
    return "\n".join(_lines(error))


def shown_path(path: str) -> str:
    """The path relative to the working directory, if it is inside that."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return path


def _short_path(path: str) -> str:
    shown = shown_path(path)
    return Path(shown).name if Path(shown).is_absolute() else shown


def _lines(error: BaseException) -> Iterator[str]:
    links = list(_chain(error))
    for number, link in enumerate(reversed(links)):
        if number:
            yield "which led to:"
        yield from _lines_of(link)


def _lines_of(error: BaseException) -> Iterator[str]:
    if isinstance(error, SyntaxError):
        yield from (line.rstrip("\n") for line in traceback.format_exception_only(error))
        return
    frames = _frames(error)
    chosen = [frame for frame in frames if not is_installed(frame.filename)]
    if frames and frames[-1] not in chosen:
        # The line in a library that raised, below the user's line that called it.
        chosen.append(frames[-1])
    for frame in chosen:
        yield f"  {shown_path(frame.filename)} line {frame.lineno}, in {frame.name}"
        if frame.line:
            yield f"    {frame.line.strip()}"
    yield f"{type(error).__name__}: {_message(error)}".rstrip(": ")
    if isinstance(error, BaseExceptionGroup):
        for leaf in list(_leaves(error))[:_MOST_LEAVES]:
            yield from (f"  | {line}" for line in _lines_of(leaf))


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    return list(traceback.extract_tb(error.__traceback__))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, its cause, the cause of the cause, and so on."""
    found: BaseException | None = error
    for _ in range(_MOST_LINKS):
        if found is None:
            return
        yield found
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for one in group.exceptions:
        if isinstance(one, BaseExceptionGroup):
            yield from _leaves(one)
        else:
            yield one


def _message(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        # The text of a SyntaxError repeats file and line.
        return str(error.msg)
    return error_message(error, max_bytes=_MAX_BYTES)
