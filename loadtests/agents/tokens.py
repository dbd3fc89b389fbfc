"""The text of a fake model's tokens: each tells its number and when the model sent it.

A token reads ``17.0f3a2b1c``: the number within the run, and the microseconds of the machine's
monotonic clock, which all its processes share. The first token of an answer also tells when the
model got the request. So a client that reads a token knows how long it was on its way, without
asking the model.
"""

import re
import time
from collections.abc import Iterator
from typing import NamedTuple

_WRAP = 1 << 32
_WRAP_SECONDS = _WRAP / 1e6

#: One token as a chunk of LangChain shows it in JSON, as its text or its tool call's arguments. A
#: whole message, which ``values`` shows, has more than one token behind the quote.
_IN_EVENTS = re.compile(
    rb'(?:"content":"|"tool_call_chunks":\[\{"name":null,"args":")'
    rb'(\d+)\.([0-9a-f]{8})(?:\.([0-9a-f]{8}))? "'
)


class Token(NamedTuple):
    """Times in seconds of the wrapped clock; see :func:`since`."""

    number: int
    sent: float
    #: When the model got the request; None in all but the first token of an answer.
    asked: float | None


def clock() -> int:
    """Microseconds, as tokens tell them."""
    return time.monotonic_ns() // 1000 % _WRAP


def token_text(number: int, asked: int | None = None) -> bytes:
    """A token that is sent now."""
    if asked is None:
        return b"%d.%08x " % (number, clock())
    return b"%d.%08x.%08x " % (number, clock(), asked)


def tokens_in(events: bytes) -> Iterator[Token]:
    """The tokens of message events, in their order."""
    for number, sent, asked in _IN_EVENTS.findall(events):
        yield Token(int(number), int(sent, 16) / 1e6, int(asked, 16) / 1e6 if asked else None)


def since(earlier: float, later: float) -> float:
    """Seconds from one time to the other; a time of ``time.monotonic`` will do for either.

    Negative where ``later`` is the earlier one.
    """
    passed = (later - earlier) % _WRAP_SECONDS
    return passed - _WRAP_SECONDS if passed > _WRAP_SECONDS / 2 else passed
