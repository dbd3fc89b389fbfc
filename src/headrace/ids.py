"""Identifiers: UUIDv7 for what we create (RFC 9562, section 5.7), UUIDv5 for system assistants."""

import os
import re
import time
from uuid import UUID, uuid5

#: The fixed namespace in which LangGraph servers derive a graph's system assistant; with it a graph
#: has the same assistant id everywhere. It differs from RFC 9562's URL namespace in two digits.
_ASSISTANT_NAMESPACE = UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")


def uuid7() -> UUID:
    """A time-ordered UUID: 48 bits of Unix milliseconds, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    random_bits = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80
    value |= 0x7 << 76
    value |= ((random_bits >> 68) & 0xFFF) << 64
    value |= 0b10 << 62
    value |= random_bits & 0x3FFF_FFFF_FFFF_FFFF
    return UUID(int=value)


def earliest_uuid7(unix_seconds: float) -> UUID:
    """What every UUIDv7 made at that time or later is not less than."""
    return UUID(
        int=(max(0, int(unix_seconds * 1000)) & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | 2 << 62
    )


def system_assistant_id(graph_id: str) -> UUID:
    """The id of the assistant that every graph has from the start."""
    return uuid5(_ASSISTANT_NAMESPACE, graph_id)


_UUID = re.compile(
    r"(?:urn:uuid:)?(?P<brace>\{)?"
    r"(?P<digits>[0-9a-f]{32}|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})"
    r"(?(brace)\})",
    re.IGNORECASE | re.ASCII,
)


def canonical_uuid(value: str) -> str | None:
    """The one spelling of a UUID: lower case, with dashes; None when ``value`` is none.

    Clients write capitals, braces, ``urn:uuid:`` or no dashes, and mean the same.
    """
    found = _UUID.fullmatch(value)
    return None if found is None else str(UUID(hex=found["digits"]))


def storable_id(value: str) -> str:
    """An id that the database can hold."""
    if "\0" in value:
        raise ValueError("an id cannot hold a NUL character")
    return value
