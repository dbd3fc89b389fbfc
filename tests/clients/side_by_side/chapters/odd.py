"""Arguments that people send by mistake, and the steps made of them."""

from collections.abc import Iterable
from typing import Any

from tests.clients.side_by_side.play import Step

HI: Any = {"messages": [{"role": "user", "content": "hi"}]}

#: Ids in forms that people paste, and some that are none.
NO_UUIDS = ("not-a-uuid", "123", "ffffffff-ffff-ffff-ffff", "a b", "%00", "ä", "null", "0" * 300)
#: Of nothing; no chapter makes it.
NOBODY = "00000000-0000-4000-8000-000000000000"


def each(
    title: str, call: str, name: str, odd: Iterable[Any], /, *, after: str = "", **others: Any
) -> list[Step]:
    """The call once for each value of one of its arguments."""
    return [
        Step(f"{title}: {name}={value!r}"[:100], call, {**others, name: value}, after=after)
        for value in odd
    ]
