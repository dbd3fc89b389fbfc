"""W3C trace contexts: ``traceparent`` and ``tracestate``, as callers send them and runs store them.

Source: https://www.w3.org/TR/trace-context/. This module needs no OpenTelemetry.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

#: The first four fields. A version after 00 may have more fields.
_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
_SAMPLED = 0x01

_MEMBER = re.compile(r"[a-z0-9][a-z0-9_\-*/@]{0,255}=[ -+\--<>-~]{0,255}[!-+\--<>-~]")
#: Longer states are dropped: the text asks to pass on at least so many characters.
_MAX_STATE = 512
_MAX_MEMBERS = 32


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A place in a trace: the span below which others stand, and whether the trace is recorded."""

    #: 32 and 16 hexadecimal digits.
    trace_id: str
    span_id: str
    sampled: bool
    #: The ``tracestate``; empty if there is none.
    state: str = ""

    @property
    def text(self) -> str:
        """The form for ``runs.traceparent``; :func:`stored_context` reads it."""
        parent = f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"
        return f"{parent} {self.state}" if self.state else parent


_NO_FIELDS: Mapping[str, str] = MappingProxyType({})


def log_fields(context: TraceContext | None) -> Mapping[str, str]:
    """The fields of log lines that belong to a trace."""
    return _NO_FIELDS if context is None else {"trace_id": context.trace_id}


def given_context(headers: Iterable[tuple[bytes, bytes]]) -> TraceContext | None:
    """The context that a caller has sent; None if there is none.

    As the W3C text says, a malformed ``traceparent``, or two of them, counts as none, and a
    malformed ``tracestate`` is left out.
    """
    parents: list[bytes] = []
    states: list[bytes] = []
    for name, value in headers:
        if name == b"traceparent":
            parents.append(value)
        elif name == b"tracestate":
            states.append(value)
    if len(parents) != 1:
        return None
    return _context(parents[0].decode("latin-1").strip(), b",".join(states).decode("latin-1"))


def stored_context(text: object) -> TraceContext | None:
    """The context in ``runs.traceparent``; None if another program wrote something else there."""
    if not isinstance(text, str):
        return None
    parent, _, state = text.partition(" ")
    return _context(parent, state)


def _context(parent: str, state: str) -> TraceContext | None:
    found = _TRACEPARENT.fullmatch(parent)
    if found is None or (found[1] == "00" and found[5] is not None):
        return None
    sampled = bool(int(found[4], 16) & _SAMPLED)
    return TraceContext(found[2], found[3], sampled, _valid_state(state))


def _valid_state(given: str) -> str:
    members = [member for part in given.split(",") if (member := part.strip(" \t"))]
    state = ",".join(members)
    if len(state) > _MAX_STATE or len(members) > _MAX_MEMBERS:
        return ""
    return state if all(map(_MEMBER.fullmatch, members)) else ""
