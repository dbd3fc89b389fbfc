"""Values of delta channels that this process has already put together, by thread.

A ``DeltaChannel`` stores what each step adds. Without a memory, each turn of a conversation reads
and decodes all of it: the cost of a turn grows with the number of turns before it. With it, a turn
reads what was added since the process last had the value, in whatever process that was.

A reader never gets an old value. A value belongs to one checkpoint, and is used only if the
database says that this checkpoint is an ancestor of the one that is read. Ancestors do not change.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Any, SupportsIndex

from langgraph.checkpoint.base import PendingWrite

#: Thread, namespace of its checkpoints, channel.
Place = tuple[str, str, str]

#: A decoded value takes about so many times the bytes of its serialized form. An estimate.
_DECODED = 4


@dataclass(frozen=True, slots=True)
class Known:
    """The value of a channel as it was before the writes of the checkpoint ``checkpoint_id``.

    :ivar seed: what ``from_checkpoint`` of the channel takes.
    :ivar size_bytes: of its serialized form.
    """

    checkpoint_id: str
    seed: Any
    size_bytes: int


class ChannelMemory:
    """One per process. The values that were not used for the longest time go first.

    :param max_bytes: about how much memory the values may take; 0: none is kept.
    :param keep_seconds: a value that was not used for longer goes when another one is remembered.
        By default none goes because of its age.
    """

    def __init__(self, max_bytes: int, keep_seconds: float = inf) -> None:
        self._most = max_bytes // _DECODED
        self._keep_seconds = keep_seconds
        #: Each value with the time of its last use, the longest unused first.
        self._known: OrderedDict[Place, tuple[Known, float]] = OrderedDict()
        self._total = 0

    def known(self, place: Place) -> Known | None:
        """What is known of a channel; it may be of a checkpoint that is no ancestor any more."""
        found = self._known.pop(place, None)
        if found is None:
            return None
        self._known[place] = (found[0], monotonic())
        return found[0]

    def remember(self, place: Place, known: Known) -> None:
        """Keep a value instead of the one before it."""
        self.forget(place)
        if known.size_bytes > self._most:
            return
        now = monotonic()
        self._known[place] = (known, now)
        self._total += known.size_bytes
        while self._total > self._most or self._unused_since() < now - self._keep_seconds:
            _, (oldest, _) = self._known.popitem(last=False)
            self._total -= oldest.size_bytes

    def forget(self, place: Place) -> None:
        found = self._known.pop(place, None)
        if found is not None:
            self._total -= found[0].size_bytes

    def _unused_since(self) -> float:
        """When the value was last used that was not used for the longest time."""
        return next(iter(self._known.values()))[1]


class RememberedWrites(list[PendingWrite]):
    """Writes to replay. A channel that has replayed them may have the result remembered.

    Nobody may change a value that is remembered: other runs of this process get it too.
    """

    def __init__(
        self,
        writes: Sequence[PendingWrite],
        memory: ChannelMemory,
        place: Place,
        checkpoint_id: str,
        size_bytes: int,
    ) -> None:
        super().__init__(writes)
        self._memory = memory
        self._place = place
        self._checkpoint_id = checkpoint_id
        self._size_bytes = size_bytes

    def remember(self, seed: Any) -> None:
        """Keep the value after these writes.

        :param seed: what ``from_checkpoint`` of the channel makes this value of.
        """
        self._memory.remember(self._place, Known(self._checkpoint_id, seed, self._size_bytes))

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        # A copy or a pickle is of the writes alone.
        return list, (list(self),)
