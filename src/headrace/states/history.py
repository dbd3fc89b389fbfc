"""A page of a thread's states. Their sizes are known before the large states are read."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from typing import Any

from headrace.checkpoints.answer_memory import Reading
from headrace.states.reader import StateReader
from headrace.states.schemas import HistoryQuery, ThreadState

#: States are read together up to so many bytes; a larger state is read alone.
_TOGETHER_BYTES = 1024 * 1024

#: Checkpoints that are read together, with their bytes.
Group = Sequence[tuple[str, int]]


class History:
    """States, newest first. :meth:`states` reads them when the caller asks for them.

    :ivar next_before: the checkpoint id before which the next page begins, if this page was cut for
        its bytes; else None.
    """

    def __init__(
        self,
        reader: StateReader,
        thread_id: str,
        graph_id: str | None,
        query: HistoryQuery,
        *,
        configurable: Mapping[str, Any] | None,
        reading: Reading,
    ) -> None:
        self.next_before: str | None = None
        self._query = query
        self._reading = reading
        self._page = partial(
            reader.page, thread_id, graph_id, query, configurable=configurable, reading=reading
        )
        self._first: list[ThreadState] = []
        self._groups: Sequence[Group] = ()
        self._before = query.before

    async def plan(self) -> None:
        """Read the small states at once, and take the memory that the large states will need.

        :raises AnswerTooLarge: the first state is larger than any answer may be.
        :raises AnswersFull: there is no memory for the states now.
        """
        query, reading = self._query, self._reading
        # With a limit of 0, the saver would read all checkpoints.
        if query.limit:
            self._first = await self._page(limit=query.limit, before=query.before)
        if self._first:
            self._before = self._first[-1].checkpoint_id
        fitting, more = _fitting(reading, bool(self._first))
        self._groups = groups = _groups(fitting)
        if groups:
            reading.refuse_too_large(groups[0][0][1])
            await reading.take(max(sum(size for _, size in group) for group in groups))
        if more:
            self.next_before = fitting[-1][0] if fitting else self._before
            reading.memory.count("shortened")

    async def states(self) -> AsyncGenerator[ThreadState, None]:
        """The states, one by one. A state is not kept after it was given to the caller."""
        while self._first:
            yield self._first.pop(0)
        before = self._before
        for group in self._groups:
            self._reading.admitted = group
            states = await self._page(limit=len(group), before=before)
            before = group[-1][0]
            while states:
                yield states.pop(0)


def _fitting(reading: Reading, begun: bool) -> tuple[Group, bool]:
    """The unread states for which the page has room, and whether there are more."""
    settings = reading.memory.settings
    total, rest = reading.bytes, reading.rest
    for number, (_, size) in enumerate(rest):
        total += size
        if (begun or number) and (total > settings.max_bytes or size > settings.max_state_bytes):
            return rest[:number], True
    return rest, False


def _groups(states: Group) -> list[Group]:
    groups: list[list[tuple[str, int]]] = []
    together = 0
    for state in states:
        together += state[1]
        if not groups or together > _TOGETHER_BYTES:
            groups.append([])
            together = state[1]
        groups[-1].append(state)
    return [tuple(group) for group in groups]
