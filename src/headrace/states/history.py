"""A page of a thread's states, planned by their sizes before the large ones are read."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from headrace.checkpoints.answer_memory import Reading
from headrace.states.schemas import ThreadState

#: Small states are read together as far as they come to this.
_TOGETHER_BYTES = 1024 * 1024

#: So many states before that checkpoint, newest first.
ReadStates = Callable[[int, str | None], Awaitable[list[ThreadState]]]

#: Checkpoints and their bytes, that are read at once.
Group = Sequence[tuple[str, int]]


class History:
    """States, newest first; :meth:`states` reads them as they are asked for.

    :ivar next_before: the id before which the next page begins, where bytes ended this one.
    """

    def __init__(
        self,
        first: list[ThreadState],
        groups: Sequence[Group],
        before: str | None,
        next_before: str | None,
        reading: Reading,
        read: ReadStates,
    ) -> None:
        self.next_before = next_before
        self._first = first
        self._groups = groups
        self._before = before
        self._reading = reading
        self._read = read

    @classmethod
    async def planned(
        cls, first: list[ThreadState], before: str | None, reading: Reading, read: ReadStates
    ) -> "History":
        """The page that begins with ``first``, as far as an answer may go; it has its memory then.

        :raises AnswerTooLarge, AnswersFull: it cannot even begin.
        """
        if first:
            before = first[-1].checkpoint_id
        fitting, more = _fitting(reading, bool(first))
        groups = _groups(fitting)
        if groups:
            reading.refuse_too_large(groups[0][0][1])
            await reading.take(max(sum(size for _, size in group) for group in groups))
        next_before = None
        if more:
            next_before = fitting[-1][0] if fitting else before
            reading.memory.count("shortened")
        return cls(first, groups, before, next_before, reading, read)

    async def states(self) -> AsyncGenerator[ThreadState, None]:
        """One by one: what was told is not kept."""
        while self._first:
            yield self._first.pop(0)
        before = self._before
        for group in self._groups:
            self._reading.admitted = group
            states = await self._read(len(group), before)
            before = group[-1][0]
            while states:
                yield states.pop(0)


def _fitting(reading: Reading, begun: bool) -> tuple[Group, bool]:
    """Of what is left to read, what the page has room for; and whether there is more."""
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
