"""Lists of threads: pages, what is shown of each, and filters on values."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from headrace.auth.principal import Principal
from headrace.db.faults import DATABASE_ERRORS
from headrace.db.tables import ThreadRow
from headrace.errors import InvalidRequest, Unavailable
from headrace.events.encoding import storable
from headrace.threads.contained import at_path, contains
from headrace.threads.schemas import ThreadFilter, ThreadSearch
from headrace.threads.search_repository import ThreadSearchRepository
from headrace.threads.search_sql import Order
from headrace.threads.wire import thread_json

_log = structlog.stdlib.get_logger("headrace.threads")

#: Threads whose values a filter on values may look into.
MAX_DECODED = 1000

#: Threads whose values are read at once: what one query of the saver takes.
_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Page:
    threads: list[dict[str, Any]]
    #: With more pages the next one and one more: nothing is counted.
    total: int
    next_offset: int | None


class ThreadListing:
    """
    :param read_values: of a thread, as single reads show them; asked for many at once, it reads
        them together.
    """

    def __init__(
        self,
        repository: ThreadSearchRepository,
        read_values: Callable[[ThreadRow], Awaitable[Any]],
    ) -> None:
        self._repository = repository
        self._read_values = read_values

    async def search(self, principal: Principal, body: ThreadSearch) -> Page:
        """
        :raises InvalidRequest: a filter on values that the other filters leave too much to.
        """
        order = Order(body.sort_by or "created_at", body.sort_order != "asc")
        if body.values:
            rows = await self._with_values(principal, body, order, body.offset + body.limit + 1)
            rows = rows[body.offset :]
        else:
            rows = await self._repository.page(
                principal, body, order, limit=body.limit + 1, offset=body.offset
            )
        more, rows = len(rows) > body.limit, rows[: body.limit]
        end = body.offset + len(rows)
        return Page(
            [thread async for thread in self._shown(rows, body)],
            end + 1 if more else end,
            end if more else None,
        )

    async def count(self, principal: Principal, body: ThreadFilter) -> int:
        """:raises InvalidRequest: as :meth:`search`."""
        if body.values:
            return len(await self._with_values(principal, body, Order(), None))
        return await self._repository.count(principal, body)

    async def _with_values(
        self, principal: Principal, body: ThreadFilter, order: Order, most: int | None
    ) -> list[ThreadRow]:
        rows = await self._repository.page(
            principal, body, order, limit=MAX_DECODED + 1, offset=0, with_state=True
        )
        if len(rows) > MAX_DECODED:
            raise InvalidRequest(
                f"A filter on values looks into at most {MAX_DECODED} threads, and the other"
                " filters leave more; narrow them by ids, metadata or status."
            )
        found: list[ThreadRow] = []
        async for row, values in self._values_of(rows):
            if contains(storable(values), body.values):
                found.append(row)
                if most is not None and len(found) >= most:
                    break
        return found

    async def _values_of(self, rows: Sequence[ThreadRow]) -> AsyncIterator[tuple[ThreadRow, Any]]:
        for first in range(0, len(rows), _AT_ONCE):
            some = rows[first : first + _AT_ONCE]
            found = await asyncio.gather(*(self._values(row) for row in some))
            for row, values in zip(some, found, strict=True):
                yield row, values

    async def _values(self, row: ThreadRow) -> Any:
        """None for a thread that cannot be read at all: the others on its page can."""
        try:
            return await self._read_values(row)
        except Unavailable:
            raise
        except DATABASE_ERRORS:
            raise
        except Exception:
            _log.exception("thread_unreadable", thread_id=row.thread_id)
            return None

    async def _shown(
        self, rows: Sequence[ThreadRow], body: ThreadSearch
    ) -> AsyncIterator[dict[str, Any]]:
        extract = body.extract or {}
        fields: set[str] = set(body.select or ())
        wants_values = not fields or "values" in fields
        wants_values |= any(path.startswith("values") for path in extract.values())
        if wants_values:
            async for row, values in self._values_of(rows):
                yield _selected(thread_json(row, values), fields, extract)
        else:
            for row in rows:
                yield _selected(thread_json(row, None), fields, extract)


def _selected(thread: dict[str, Any], fields: set[str], extract: dict[str, str]) -> dict[str, Any]:
    shown = {name: value for name, value in thread.items() if not fields or name in fields}
    if extract:
        roots = {path.split(".")[0].split("[")[0] for path in extract.values()}
        document = storable({root: thread.get(root) for root in roots})
        shown["extracted"] = {alias: at_path(document, path) for alias, path in extract.items()}
    return shown
