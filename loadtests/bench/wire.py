"""Counts what goes over a connection, from the bytes of the Postgres protocol, version 3.

A statement is an Execute or a simple Query; a round trip ends with a ReadyForQuery, and so does a
transaction when it says that none is open. That is what a client sees, whichever driver it uses and
however it batches.
"""

from dataclasses import dataclass

#: Bytes of a message's head: its type, and its length, which counts itself but not the type.
_TYPE, _LENGTH = 1, 4


@dataclass
class Counts:
    """Of all connections together."""

    statements: int = 0
    round_trips: int = 0
    transactions: int = 0


class _Messages:
    """Cuts one direction of a connection into messages; ``untyped`` ones come first."""

    def __init__(self, *, untyped: int) -> None:
        self._untyped = untyped
        self._buffer = bytearray()
        self._skip = 0

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """The type of each message that begins here, and the first byte of what it carries.

        The rest of a message is not kept: it may be 20 MB.
        """
        found: list[tuple[bytes, bytes]] = []
        at = min(self._skip, len(data))
        self._skip -= at
        self._buffer += data[at:]
        while True:
            header = _LENGTH if self._untyped else _TYPE + _LENGTH
            if len(self._buffer) < header:
                return found
            size = int.from_bytes(self._buffer[header - _LENGTH : header], "big")
            size += header - _LENGTH
            if size > header == len(self._buffer):
                return found
            if self._untyped:
                self._untyped -= 1
            else:
                first = bytes(self._buffer[header : header + 1]) if size > header else b""
                found.append((bytes(self._buffer[:_TYPE]), first))
            self._skip = max(0, size - len(self._buffer))
            del self._buffer[:size]


class Meter:
    """One connection; adds to the counts it shares with others."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._sent = _Messages(untyped=1)
        self._answered = _Messages(untyped=0)

    def sent(self, data: bytes) -> None:
        """Bytes from the client. The first message, which starts the session, has no type."""
        self._counts.statements += sum(kind in (b"E", b"Q") for kind, _ in self._sent.feed(data))

    def answered(self, data: bytes) -> None:
        """Bytes from the server."""
        for kind, first in self._answered.feed(data):
            if kind == b"Z":
                self._counts.round_trips += 1
                self._counts.transactions += first == b"I"
