"""Values of many megabytes: the event loop does not copy them, and a flush sends them once."""

import asyncio
import os
import tracemalloc
from dataclasses import dataclass
from time import process_time, thread_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage

from headrace.checkpoints.serializer import build_serializer
from headrace.db.arrays import Bytea, Pieces
from tests.support.chains import config_of, put
from tests.support.database import open_pool
from tests.support.engine import open_saver
from tests.support.proxy import proxied
from tests.support.runs import default_isolation

MEBIBYTE = 1024 * 1024
BYTES = bytes(range(256)) * 4 * 1024
TEXT = "x" * MEBIBYTE
PICTURE: list[str | dict[Any, Any]] = [
    {"type": "text", "text": "See:"},
    {"type": "image_url", "image_url": {"url": TEXT}},
]


@dataclass
class Document:
    name: str
    content: Any


@pytest.mark.parametrize(
    ("value", "apart"),
    [
        ([BYTES], True),
        ({"a": 1, "b": {"c": TEXT}, 2: [BYTES, TEXT, BYTES]}, True),
        ((1, (TEXT, 2)), True),
        ([HumanMessage("hi", id="1"), HumanMessage(PICTURE, id="2"), AIMessage("", id="3")], True),
        ([HumanMessage("hi", id=str(n)) for n in range(200)] + [HumanMessage(PICTURE)], True),
        (Document("a", Document("b", [BYTES, HumanMessage(PICTURE, id="1")])), True),
        ({"large": BYTES, "number": 2**70, "half\ud800": "\ud800"}, True),
        (["é" * MEBIBYTE], False),
        ([["small"], b"small", None, 1.5, set()], False),
        ([[[[[[[BYTES]]]]]]], False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_in_pieces_has_the_bytes_of_the_whole(value, apart):
    serializer = build_serializer()
    kind, pieces = serializer.dumps_pieces(value)
    assert isinstance(pieces, Pieces) is apart
    assert (kind, bytes(pieces)) == serializer.dumps_typed(value)
    assert len(pieces) == len(bytes(pieces))


_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=9)
)
_VALUES = st.recursive(
    st.one_of(_LEAVES, st.sampled_from([BYTES, TEXT, "é" * MEBIBYTE])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=3), inner, max_size=4),
        st.builds(Document, st.text(max_size=3), inner),
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(_VALUES)
def test_any_value_in_pieces_has_the_bytes_of_the_whole(value):
    serializer = build_serializer()
    kind, pieces = serializer.dumps_pieces(value)
    assert (kind, bytes(pieces)) == serializer.dumps_typed(value)


@pytest.mark.parametrize(
    "value",
    [[BYTES * 20], {"text": TEXT * 20}, [HumanMessage([{"text": TEXT * 20}], id="1")]],
    ids=["bytes", "text", "message"],
)
def test_a_large_leaf_is_not_copied_before_it_is_sent(value):
    serializer = build_serializer()
    tracemalloc.start()
    try:
        _, pieces = serializer.dumps_pieces(value)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(pieces) > 20 * MEBIBYTE
    assert most < MEBIBYTE


def test_the_column_holds_a_value_in_pieces_once():
    whole, column = BYTES * 20, Pieces([b"head", BYTES * 10, BYTES * 10])
    tracemalloc.start()
    try:
        dumped = Bytea([column]).dumped
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert dumped == Bytea([b"head" + whole]).dumped
    assert most < len(whole) + MEBIBYTE


# It counts processor time.
@pytest.mark.alone
async def test_a_large_value_takes_less_of_the_loop_than_a_copy_of_a_quarter(database_url):
    value = os.urandom(48 * MEBIBYTE)
    before = thread_time()
    copy = bytes(bytearray(value))
    copied = (thread_time() - before) / 2
    del copy
    async with open_pool(database_url) as pool, open_saver(pool) as saver:
        saver.serde = build_serializer()
        await put(saver, "t", 1, ["small"])
        before = thread_time()
        await put(saver, "t", 2, [value])
        held = thread_time() - before
        print(f"the loop worked {held * 1000:.1f} ms, one copy takes {copied * 1000:.1f} ms")
        assert held < copied / 4
        found = await saver.aget_tuple(config_of("t"))
        assert found is not None
        assert found.checkpoint["channel_values"]["messages"] == [value]


# It counts processor time.
@pytest.mark.alone
async def test_sending_takes_time_in_proportion_to_the_size(database_url):
    """When the rest of a message is moved for each part that is sent, eight times the size takes
    up to 64 times the processor."""
    taken: dict[int, float] = {}
    async with open_pool(database_url) as pool, open_saver(pool) as saver:
        saver.serde = build_serializer()
        for number, size in enumerate((8, 64, 8, 64, 8, 64), 1):
            value = [os.urandom(size * MEBIBYTE)]
            before = process_time()
            await put(saver, f"t{number}", 1, value)
            taken[size] = min(taken.get(size, 99.0), process_time() - before)
    print({size: f"{seconds * 1000:.0f} ms" for size, seconds in taken.items()})
    assert taken[64] < 16 * taken[8]


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
async def test_large_values_come_back_as_they_went(database_url, isolation):
    value = {"bytes": os.urandom(12 * MEBIBYTE), "text": "y" * 3 * MEBIBYTE}
    with default_isolation(database_url, isolation):
        async with open_pool(database_url) as pool, open_saver(pool) as saver:
            saver.serde = build_serializer()
            for number in (1, 2):
                await put(saver, "t", number, value)
            await saver.aput_writes(config_of("t", 2), [("messages", value)], "task")
            found = await saver.aget_tuple(config_of("t"))
    assert found is not None
    assert found.checkpoint["channel_values"]["messages"] == value
    assert found.pending_writes == [("task", "messages", value)]


# It has a bound on time.
@pytest.mark.alone
async def test_a_server_that_falls_silent_while_a_large_value_is_sent_is_left(database_url):
    value = [os.urandom(12 * MEBIBYTE)]
    async with (
        proxied(database_url) as proxy,
        open_pool(proxy.url) as pool,
        open_saver(pool, flush_timeout_seconds=3) as saver,
    ):
        saver.serde = build_serializer()
        await put(saver, "t", 1, ["small"])
        proxy.stall()
        writing = asyncio.ensure_future(put(saver, "t", 2, value))
        await asyncio.sleep(4)
        assert not writing.done()
        proxy.flow()
        async with asyncio.timeout(30):
            await writing
            found = await saver.aget_tuple(config_of("t"))
    assert found is not None
    assert found.checkpoint["channel_values"]["messages"] == value
