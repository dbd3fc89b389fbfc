"""Lists of threads: pages, the fields that are shown, and filters on values."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
import structlog

from headrace.auth.principal import Principal
from headrace.checkpoints.answer_memory import AnswerMemory, Reading, StateIsLarge
from headrace.checkpoints.row_pages import rows_within
from headrace.db.faults import DATABASE_ERRORS
from headrace.db.row_sizes import RowPage
from headrace.errors import AnswerTooLarge, InvalidRequest
from headrace.events.json_encoding import encode_json
from headrace.request_limits import RequestLimits
from headrace.request_settings import AnswerSettings, RequestSettings
from headrace.threads.json_containment import (
    Comparisons,
    ExtractedTooLarge,
    TooManyComparisons,
    contains,
    extracted,
)
from headrace.threads.rows import StoredThread
from headrace.threads.schemas import ThreadFilter, ThreadSearch, thread_json
from headrace.threads.search_repository import ThreadSearchRepository
from headrace.threads.search_sql import Order
from headrace.threads.service import ThreadService
from headrace.unavailable_errors import AnswersFull, Unavailable

_log = structlog.stdlib.get_logger("headrace.threads")

#: How many threads a filter on values may read.
MAX_DECODED = 1000

#: How many bytes the rows of these threads may have; their values do not count.
_MAX_ROWS_BYTES = 32 * 1024 * 1024

#: ``values.messages[-1].content``
_KEY_OF_VALUES = re.compile(r"values\.([^.\[\]]+)")

#: Large values have their own thread: nodes of graphs may occupy all threads of the common pool. It
#: is only one, because it competes with the event loop for the interpreter.
_APART = ThreadPoolExecutor(max_workers=1, thread_name_prefix="large-values")

T = TypeVar("T")

#: The values of so many threads are read at once: one query of the saver takes no more.
_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Page:
    #: Threads as JSON.
    items: list[bytes]
    #: Holds the memory of the items.
    reading: Reading
    #: The number of threads up to the end of this page, plus one if there are more. No query counts
    #: them all.
    total: int
    next_offset: int | None

    @property
    def threads(self) -> list[dict[str, Any]]:
        """The threads as clients see them."""
        return [orjson.loads(item) for item in self.items]


class ThreadListing:
    """
    :param threads: reads the values of a thread; many reads at once become one query.
    """

    def __init__(
        self,
        repository: ThreadSearchRepository,
        threads: ThreadService,
        memory: AnswerMemory | None = None,
        limits: RequestLimits | None = None,
    ) -> None:
        self._repository = repository
        self._threads = threads
        self._memory = memory or AnswerMemory(AnswerSettings())
        self._limits = limits or RequestLimits(RequestSettings())

    async def search(self, principal: Principal, body: ThreadSearch) -> Page:
        """One page of threads. The caller releases the memory of its ``reading``.

        :raises InvalidRequest: a filter is too large; the other filters leave too many threads for
            the filter on values; or the extracted values are too large.
        :raises AnswersFull: there is no memory for the page now.
        """
        self._refuse_large(body)
        order = Order(body.sort_by or "created_at", body.sort_order != "asc")
        reading = self._memory.reading()
        if body.values:
            rows = await self._with_values(principal, body, order, body.offset + body.limit + 1)
            rows = rows[body.offset :]
            more = len(rows) > body.limit
        else:

            async def read(max_bytes: int) -> RowPage[StoredThread]:
                return await self._repository.page(
                    principal,
                    body,
                    order,
                    limit=body.limit + 1,
                    offset=body.offset,
                    max_bytes=max_bytes,
                )

            found = await rows_within(reading, read)
            rows, more = found.rows, found.found > min(len(found.rows), body.limit)
        rows = rows[: body.limit]
        shown = await self._shown(rows, body, reading)
        if len(shown) < len(rows):
            more = True
            self._memory.count("shortened")
        end = body.offset + len(shown)
        return Page(shown, reading, end + 1 if more else end, end if more else None)

    async def count(self, principal: Principal, body: ThreadFilter) -> int:
        """:raises InvalidRequest: as :meth:`search`."""
        self._refuse_large(body)
        if body.values:
            return len(await self._with_values(principal, body, Order(), None))
        return await self._repository.count(principal, body)

    def _refuse_large(self, body: ThreadFilter) -> None:
        self._limits.filter(body.metadata, "metadata")
        self._limits.filter(body.values, "values")

    async def _with_values(
        self, principal: Principal, body: ThreadFilter, order: Order, most: int | None
    ) -> Sequence[StoredThread]:
        limit = self._memory.settings.max_filtered_bytes
        page = await self._repository.page(
            principal,
            body,
            order,
            limit=MAX_DECODED + 1,
            offset=0,
            max_bytes=min(limit, _MAX_ROWS_BYTES),
            with_state=True,
        )
        if page.is_short:
            raise InvalidRequest(
                f"A filter on values looks into threads whose metadata is at most"
                f" {min(limit, _MAX_ROWS_BYTES)} bytes, and the other filters leave more; narrow"
                " them by ids, metadata or status."
            )
        rows = page.rows
        if len(rows) > MAX_DECODED:
            raise InvalidRequest(
                f"A filter on values looks into at most {MAX_DECODED} threads, and the other"
                " filters leave more; narrow them by ids, metadata or status."
            )
        found: list[StoredThread] = []
        looked_into = 0
        # Read only the channels that the filter names.
        channels = set(body.values or {})
        comparisons = Comparisons(self._limits.settings.max_comparisons)
        async for row, read in self._values_of(rows, channels):
            with read:
                looked_into += read.reading.bytes
                if looked_into > limit:
                    raise InvalidRequest(
                        f"A filter on values looks into at most {limit} bytes (setting"
                        " answers.max_filtered_bytes), and the other filters leave more; narrow"
                        " them by ids, metadata or status."
                    )
                values = await read.values()
                try:
                    # Off the event loop: a state may be as large as a graph makes it.
                    there = await _apart(contains, values, body.values, comparisons)
                except TooManyComparisons:
                    raise InvalidRequest(
                        f"values: the filter takes more than {comparisons.most} comparisons"
                        " (setting requests.max_comparisons); send a smaller one, or narrow the"
                        " threads by ids, metadata or status."
                    ) from None
                finally:
                    del values
                if there:
                    found.append(row)
            if most is not None and len(found) >= most:
                break
        return found

    async def _values_of(
        self, rows: Sequence[StoredThread], channels: set[str] | None
    ) -> AsyncIterator[tuple[StoredThread, "_ValuesOfThread"]]:
        """Each row with its values. Small values are read together; the caller reads large ones."""
        for first in range(0, len(rows), _AT_ONCE):
            some = rows[first : first + _AT_ONCE]
            found = await asyncio.gather(*(self._read_small(row, channels) for row in some))
            for row, read in zip(some, found, strict=True):
                yield row, read

    async def _read_small(self, row: StoredThread, channels: set[str] | None) -> "_ValuesOfThread":
        reading = self._memory.reading(channels=channels, only_small=True)
        read = _ValuesOfThread(row, reading, self._values)
        try:
            read.small = await self._values(row, reading)
        except StateIsLarge as large:
            read.size_bytes = large.size_bytes
            read.reading = self._memory.reading(channels=channels)
            read.reading.bytes = large.size_bytes
        except AnswerTooLarge as refusal:
            read.omitted = refusal.message
        return read

    async def _values(self, row: StoredThread, reading: Reading) -> Any:
        """The values of a thread; None when they cannot be read: the page goes on without them."""
        try:
            return await self._threads.values(row, reading)
        except (Unavailable, AnswerTooLarge, StateIsLarge):
            raise
        except DATABASE_ERRORS:
            raise
        except Exception:
            _log.exception("thread_unreadable", thread_id=row.thread_id)
            return None

    async def _shown(
        self, rows: Sequence[StoredThread], body: ThreadSearch, reading: Reading
    ) -> list[bytes]:
        """The first rows as JSON, as many as one answer has room for."""
        extract = body.extract or {}
        fields: set[str] = set(body.select or ())
        channels = _channels_for(fields, extract)
        shown: list[bytes] = []
        if channels is not None and not channels:
            return [self._item(thread_json(row, None), fields, extract) for row in rows]
        total, max_bytes = 0, self._memory.settings.max_bytes
        async for row, read in self._values_of(rows, channels):
            with read:
                if shown and total + read.size_bytes > max_bytes:
                    return shown
                try:
                    values = await read.values(beside=reading.held)
                except AnswersFull:
                    if shown:
                        return shown
                    raise
                thread = thread_json(row, values, values_omitted=read.omitted)
                if read.size_bytes:
                    item = await _apart(self._item, thread, fields, extract)
                else:
                    item = self._item(thread, fields, extract)
                del values, thread
            total += len(item)
            if shown and total > max_bytes:
                return shown
            try:
                await reading.keep(total)
            except AnswersFull:
                if shown:
                    return shown
                raise
            shown.append(item)
        return shown

    def _item(self, thread: dict[str, Any], fields: set[str], extract: dict[str, str]) -> bytes:
        max_bytes = self._memory.settings.max_bytes
        try:
            return encode_json(_selected(thread, fields, extract, max_bytes))
        except ExtractedTooLarge:
            raise InvalidRequest(
                f"extract: of thread {thread['thread_id']} it is more than {max_bytes} bytes"
                " (setting answers.max_bytes); send fewer paths, or longer ones"
            ) from None


class _ValuesOfThread:
    """The values of one thread; small ones are read already."""

    def __init__(
        self,
        row: StoredThread,
        reading: Reading,
        read_values: Callable[[StoredThread, Reading], Awaitable[Any]],
    ) -> None:
        self._row = row
        self._read_values = read_values
        self.reading = reading
        self.small: Any = None
        #: The size of large values, which are not read yet; 0 for small ones.
        self.size_bytes = 0
        #: Why values are left out.
        self.omitted = ""

    async def values(self, beside: int = 0) -> Any:
        """
        :param beside: bytes of memory that the answer holds for other threads.
        :raises AnswersFull: the values are large, and there is no memory for them now.
        """
        if self.size_bytes:
            self.reading.beside = beside
            return await self._read_values(self._row, self.reading)
        return self.small

    def __enter__(self) -> None:
        """Hold the memory of the values until the end of the block."""

    def __exit__(self, *exc_info: object) -> None:
        self.small = None
        self.reading.release()


def _channels_for(fields: set[str], extract: dict[str, str]) -> set[str] | None:
    """The channels that fields and paths need; None: all."""
    if not fields or "values" in fields:
        return None
    channels: set[str] = set()
    for path in extract.values():
        if path.startswith("values"):
            key = _KEY_OF_VALUES.match(path)
            if key is None:
                return None
            channels.add(key[1])
    return channels


async def _apart(work: Callable[..., T], *arguments: Any) -> T:
    """Do work over values of any size off the event loop."""
    return await asyncio.get_running_loop().run_in_executor(_APART, work, *arguments)


def _selected(
    thread: dict[str, Any], fields: set[str], extract: dict[str, str], max_bytes: int
) -> dict[str, Any]:
    fields = fields | {"values_omitted"} if fields else fields
    shown = {name: value for name, value in thread.items() if not fields or name in fields}
    if extract:
        roots = {path.split(".")[0].split("[")[0] for path in extract.values()}
        document = {root: thread.get(root) for root in roots}
        shown["extracted"] = extracted(document, extract, max_bytes)
    return shown
