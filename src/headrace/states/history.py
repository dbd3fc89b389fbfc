"""A page of a thread's states, planned by their sizes before the large ones are read."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from typing import Any

from headrace.checkpoints.answer_memory import Reading
from headrace.states.reader import StateReader
from headrace.states.schemas import HistoryQuery, ThreadState

#: Small states are read together, up to this many bytes.
_TOGETHER_BYTES = 1024 * 1024

#: Checkpoints with their bytes, which are read at once.
Group = Sequence[tuple[str, int]]


class History:
    """States, newest first; :meth:`states` reads them as they are asked for.

    :ivar next_before: the id before which the next page begins, where bytes ended this one.
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
        """Read the small states at once, and take the memory that the large ones will need.

        :raises AnswerTooLarge, AnswersFull: not even the first state can be sent, or not now.
        """
        query, reading = self._query, self._reading
        # With a limit of 0 the saver would read all of them.
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
        """One by one; a state that was given out is not kept."""
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
    """The states left to read that the page has room for, and whether there are more."""
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
