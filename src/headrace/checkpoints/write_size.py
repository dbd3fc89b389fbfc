"""How large one write of a saver may be, counted while its values are serialized."""

from headrace.errors import CheckpointTooLarge

#: What one write may hold by default.
MAX_CHECKPOINT_BYTES = 128 * 1024 * 1024


class WriteSize:
    """What the values of one write take up, known before anything of it is on its way."""

    def __init__(self, most: int = MAX_CHECKPOINT_BYTES) -> None:
        self._most = most
        self._total = 0

    def add(self, channel: str, size_bytes: int) -> None:
        """:raises CheckpointTooLarge: it is too much with that."""
        self._total += size_bytes
        if self._total > self._most:
            raise CheckpointTooLarge(
                f"The state is too large to be stored: with channel '{channel}', of {size_bytes}"
                f" bytes, one step writes more than {self._most} bytes (setting"
                " checkpointer.max_checkpoint_bytes). Keep large values elsewhere, and in the state"
                " where they are."
            )
