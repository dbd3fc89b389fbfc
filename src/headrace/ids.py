"""Identifiers: UUIDv7 for new rows (RFC 9562, section 5.7), UUIDv5 for system assistants."""

import re
from functools import lru_cache
from uuid import UUID, uuid5

import uuid_utils
import uuid_utils.compat

#: LangGraph servers derive the id of a graph's system assistant in this namespace. With it a graph
#: has one assistant id on every server. It differs from RFC 9562's URL namespace in one digit.
_ASSISTANT_NAMESPACE = UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")

#: Names of conversations become ids in this namespace.
_CONVERSATION_NAMESPACE = UUID("6f0e2f0c-5d0b-5c57-9f5c-0d8f4be5a1c7")


def uuid7() -> UUID:
    """A new UUIDv7, greater than all that this process has made before.

    Lists of runs sort by it, so ids of one millisecond are in order too.
    """
    return uuid_utils.compat.uuid7()


def new_request_id() -> str:
    """A new id for a request: the hexadecimal digits of a UUIDv7."""
    return uuid_utils.uuid7().hex


def earliest_uuid7(unix_seconds: float) -> UUID:
    """The smallest UUIDv7 of that time: each one made then or later is greater or equal."""
    return UUID(
        int=(max(0, int(unix_seconds * 1000)) & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | 2 << 62
    )


@lru_cache(maxsize=1024)
def system_assistant_id(graph_id: str) -> UUID:
    """The id of the assistant that the server makes for each graph."""
    return uuid5(_ASSISTANT_NAMESPACE, graph_id)


def thread_id_for(run_id: UUID) -> UUID:
    """The id of the thread that is made for a run: always one for one run."""
    return uuid_utils.compat.uuid5(run_id, "thread")


def conversation_uuid(tenant: str, identity: str, name: str) -> UUID:
    """The id of the thread of a conversation, which this caller knows by a name."""
    # With the lengths, no two callers and names look alike.
    text = f"{len(tenant)}:{tenant}{len(identity)}:{identity}{name}"
    return uuid5(_CONVERSATION_NAMESPACE, text)


_UUID = re.compile(
    r"(?:urn:uuid:)?(?P<brace>\{)?"
    r"(?P<digits>[0-9a-f]{32}|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})"
    r"(?(brace)\})",
    re.IGNORECASE | re.ASCII,
)
#: The length of the longest spelling.
_LONGEST = len("urn:uuid:{}") + 36


def canonical_uuid(value: str) -> str | None:
    """The canonical spelling of a UUID: lower case, with dashes. None if ``value`` is no UUID.

    Clients also write a UUID with capitals, braces, ``urn:uuid:`` or no dashes.
    """
    return _canonical(value) if len(value) <= _LONGEST else None


# A request asks for the same few ids several times.
@lru_cache(maxsize=4096)
def _canonical(value: str) -> str | None:
    found = _UUID.fullmatch(value)
    return None if found is None else str(UUID(hex=found["digits"]))


def storable_id(value: str) -> str:
    """``value``, if the database can store it.

    :raises ValueError: it holds a NUL character.
    """
    if "\0" in value:
        raise ValueError("an id cannot hold a NUL character")
    return value
