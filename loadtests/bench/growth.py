"""What a turn costs as its conversation grows: bytes kept, and bytes of the server's log.

Bytes are those of the thread's rows as they are stored, compressed and out of line included. The
tables' sizes would say the same only in steps of 8 kB pages, too coarse for ten turns, and would
hide what pruning gives back until a vacuum. Indexes are left out: their entries do not grow.
"""

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal
from uuid import uuid4

from langgraph.graph.state import CompiledStateGraph
from langgraph.store.memory import InMemoryStore
from psycopg import AsyncConnection

from headrace.graphs.chat import build_chat
from loadtests.bench.comparison import Say
from loadtests.bench.contenders import Contender, Entrant
from loadtests.bench.drive import thread_config
from loadtests.bench.gauge import Gauge
from loadtests.bench.options import Options
from loadtests.bench.workloads import Builder, tutorial
from loadtests.measuring.database import MeasuredDatabase
from loadtests.measuring.figures import significant

_MESSAGE_BYTES = 200
#: No message is like another: text compresses to a half or third, but repeated it would vanish.
_WORDS = """
able about after again answer ask before book both build call change city close come could day door
each early end even every far few find first follow friend garden give good great hand have head
help home house idea keep kind know large last late learn leave letter light like line little live
long look made make mean might more most mother move much must name near need never next night
number often only open other over paper part people place plant point read right river same school
second see seem sentence set should show side small something sound still story study such take
tell thing think three time together tree turn under until walk want watch water while white
without word work world would write year young
"""
#: A conversation that has just begun: turns 5 to 14, counted from 0.
_EARLY = range(5, 15)
_PRUNE_EVERY = 10

_KEPT = """
SELECT
  (SELECT coalesce(sum(pg_column_size(thread_id) + pg_column_size(checkpoint_ns)
     + pg_column_size(checkpoint_id) + coalesce(pg_column_size(parent_checkpoint_id), 0)
     + pg_column_size(checkpoint) + pg_column_size(metadata)), 0)
   FROM checkpoints WHERE thread_id = %(thread_id)s)
+ (SELECT coalesce(sum(pg_column_size(thread_id) + pg_column_size(checkpoint_ns)
     + pg_column_size(channel) + pg_column_size(version) + pg_column_size(type)
     + coalesce(pg_column_size(blob), 0)), 0)
   FROM checkpoint_blobs WHERE thread_id = %(thread_id)s)
+ (SELECT coalesce(sum(pg_column_size(thread_id) + pg_column_size(checkpoint_ns)
     + pg_column_size(checkpoint_id) + pg_column_size(task_id) + pg_column_size(channel)
     + coalesce(pg_column_size(type), 0) + pg_column_size(blob)), 0)
   FROM checkpoint_writes WHERE thread_id = %(thread_id)s)
"""
_BLOBS = (("checkpoint_blobs", "blob"), ("checkpoint_writes", "blob"))


@dataclass(frozen=True)
class Variant:
    """A graph, and what is done against its growth."""

    build: Callable[[], Builder]
    durability: Literal["async", "exit"] = "async"
    lz4: bool = False
    #: ``keep_latest`` after so many turns; 0: never.
    prune_every: int = 0


def message(number: int) -> str:
    """200 bytes, the same for the same number."""
    words = random.Random(number).choices(_WORDS.split(), k=_MESSAGE_BYTES // 3)
    return " ".join(words)[:_MESSAGE_BYTES]


def _messages_state() -> Builder:
    return tutorial(message)


VARIANTS: Mapping[str, Variant] = {
    "chat": Variant(lambda: build_chat("")),
    "messages_state": Variant(_messages_state),
    "messages_state_lz4": Variant(_messages_state, lz4=True),
    "messages_state_exit": Variant(_messages_state, durability="exit"),
    "messages_state_keep_latest": Variant(_messages_state, prune_every=_PRUNE_EVERY),
    "messages_state_exit_keep_latest": Variant(
        _messages_state, durability="exit", prune_every=_PRUNE_EVERY
    ),
}


@dataclass(frozen=True)
class _Reading:
    """Bytes of a thread's rows now, and the position in the server's log."""

    kept: int
    wal: int


async def measure_growth(
    database: MeasuredDatabase, gauge: Gauge, options: Options, entrant: Entrant, *, say: Say
) -> dict[str, dict[str, Any] | None]:
    """By variant: bytes per turn, early and late, and the ratio of the two.

    None for what the server does not have: LZ4 is an option of its build.
    """
    found: dict[str, dict[str, Any] | None] = {}
    for name, variant in VARIANTS.items():
        say(f"growth over {options.growth_turns} turns: {name}")
        await gauge.empty()
        async with (
            entrant.open(database.url) as contender,
            await AsyncConnection.connect(database.url, autocommit=True) as connection,
            _compressed(connection, lz4=variant.lz4) as possible,
        ):
            turns = _Turns(contender, variant, connection, gauge)
            found[name] = await turns.measure(options.growth_turns) if possible else None
    return found


@asynccontextmanager
async def _compressed(connection: AsyncConnection, *, lz4: bool) -> AsyncIterator[bool]:
    """With ``lz4`` large values are compressed so inside the block; yields whether they can be."""
    cursor = await connection.execute(
        "SELECT 'lz4' = ANY(enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
    )
    row = await cursor.fetchone()
    if not lz4 or row is None or not row[0]:
        yield not lz4
        return
    for method in ("lz4", "default"):
        for table, column in _BLOBS:
            await connection.execute(
                f"ALTER TABLE {table} ALTER COLUMN {column} SET COMPRESSION {method}".encode()
            )
        if method == "lz4":
            yield True


class _Turns:
    """One conversation, measured between turns."""

    def __init__(
        self, contender: Contender, variant: Variant, connection: AsyncConnection, gauge: Gauge
    ) -> None:
        self._contender = contender
        self._variant = variant
        self._connection = connection
        self._gauge = gauge
        self._thread_id = str(uuid4())
        self._graph: CompiledStateGraph[Any, Any, Any, Any] = variant.build().compile(
            checkpointer=contender.saver, store=InMemoryStore()
        )

    async def measure(self, turns: int) -> dict[str, Any]:
        late = range(turns - (100 if turns >= 200 else 10), turns)
        bounds = {number for window in (_EARLY, late) for number in (window.start, window.stop)}
        readings: dict[int, _Reading] = {}
        for number in range(turns):
            if number in bounds:
                readings[number] = await self._read()
            await self._turn(number + 1)
        readings[turns] = await self._read()
        first, last = (
            {
                figure: (asdict(readings[window.stop])[figure] - before) / len(window)
                for figure, before in asdict(readings[window.start]).items()
            }
            for window in (_EARLY, late)
        )
        return {
            f"{figure}_bytes_per_turn": {
                "early": significant(first[figure]),
                "late": significant(last[figure]),
                "ratio": significant(last[figure] / first[figure]) if first[figure] else None,
            }
            for figure in first
        }

    async def _turn(self, number: int) -> None:
        saver = self._contender.saver
        assert saver is not None
        async with self._contender.run():
            state = await self._graph.ainvoke(
                {"messages": [{"role": "user", "content": message(2 * number)}]},
                thread_config(self._thread_id),
                durability=self._variant.durability,
            )
        if len(state["messages"]) != 2 * number:
            raise ValueError(f"turn {number} knows {len(state['messages'])} messages")
        if self._variant.prune_every and number % self._variant.prune_every == 0:
            await saver.aprune([self._thread_id], strategy="keep_latest")

    async def _read(self) -> _Reading:
        cursor = await self._connection.execute(_KEPT, {"thread_id": self._thread_id})
        row = await cursor.fetchone()
        assert row is not None
        return _Reading(int(row[0]), (await self._gauge.read()).wal_bytes)
