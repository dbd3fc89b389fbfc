"""Counts the bytes of one write of a saver while the values are serialized."""

from itertools import islice
from typing import Any

from headrace.errors import CheckpointTooLarge

#: Bytes that one write may hold by default.
MAX_CHECKPOINT_BYTES = 128 * 1024 * 1024


#: Before a container is serialized, at most so many of its members are measured.
_MEASURED_MEMBERS = 64


class WriteSize:
    """The bytes of the values of one write, known before anything is sent."""

    def __init__(self, most: int = MAX_CHECKPOINT_BYTES) -> None:
        self._most = most
        self._total = 0

    @property
    def total(self) -> int:
        """The bytes so far."""
        return self._total

    def expect(self, channel: str, value: Any) -> None:
        """Refuse a value that is certainly too large, before it is serialized.

        The serialized form would take as much memory again.

        :raises CheckpointTooLarge: the write is too large with this value.
        """
        least = least_bytes(value)
        if self._total + least > self._most:
            self.add(channel, least)

    def add(self, channel: str, size_bytes: int) -> None:
        """:raises CheckpointTooLarge: the write is too large with this value."""
        self._total += size_bytes
        if self._total > self._most:
            raise CheckpointTooLarge(
                f"The state is too large to be stored: with channel '{channel}', of {size_bytes}"
                f" bytes, one step writes more than {self._most} bytes (setting"
                " checkpointer.max_checkpoint_bytes). Keep large values elsewhere, and in the state"
                " where they are."
            )


def least_bytes(value: Any, levels: int = 2) -> int:
    """A lower bound of the serialized size in bytes, from the lengths of texts and bytes.

    :param levels: how many levels of containers are measured, with up to 64 members of each.
    """
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return 0
    if not levels:
        return 0
    return sum(least_bytes(member, levels - 1) for member in islice(value, _MEASURED_MEMBERS))
