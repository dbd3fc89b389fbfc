"""Upstream's private names: each has a test here that fails by it when upstream moves it."""

import ast
import inspect
from typing import Any, TypedDict

import pytest
from langchain_core.language_models import _compat_bridge
from langchain_core.runnables import RunnableConfig
from langgraph._internal import _constants
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.postgres import base
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde import _msgpack, jsonplus
from langgraph.checkpoint.serde import types as serde_types
from langgraph.graph import START, StateGraph, message
from langgraph.pregel import _loop, _messages, _read, _runner
from langgraph.store import base as store_base
from langgraph.store.base import GetOp, PutOp, SearchOp, batch
from langgraph.store.postgres import base as postgres_store
from langgraph.store.postgres.aio import AsyncPostgresStore

from headrace.checkpoints import upstream
from headrace.checkpoints.queued_store import QueuedStore, deduplicated
from headrace.checkpoints.sized_reads_sql import LATEST, LATEST_SMALL
from headrace.checkpoints.upstream import (
    ERROR_SOURCE,
    GIVES_IDS,
    DeltaSnapshot,
    PooledSaver,
    read_channel,
)
from headrace.db.arrays import Jsonb, Text
from tests.support.chains import config_of, put, put_writes
from tests.support.database import open_pool
from tests.support.engine import open_saver
from tests.support.sources import PACKAGE


class Nothing(TypedDict):
    """The input of a node without input."""


#: Every one that headrace uses, by the name under which upstream has it, and who has it there.
PRIVATE: dict[str, Any] = {
    "CONFIG_KEY_STREAM_MESSAGES_V2": _constants,
    "ERROR_SOURCE_NODE": _constants,
    "INPUT": _constants,
    "INTERRUPT": _constants,
    "NULL_TASK_ID": _constants,
    "PULL": _constants,
    "ChannelRead": _read,
    "_DeltaSnapshot": serde_types,
    "SAFE_MSGPACK_METHODS": _msgpack,
    "SAFE_MSGPACK_TYPES": _msgpack,
    "_msgpack_default": jsonplus,
    "_option": jsonplus,
    "aput": AsyncPostgresSaver,
    "_dump_blobs": AsyncPostgresSaver,
    "_dedupe_ops": batch,
    "_messages_delta_reducer": message,
    "message_to_events": _compat_bridge,
    "_cursor": AsyncPostgresSaver,
    "supports_pipeline": None,
    "_load_blobs": AsyncPostgresSaver,
    "_load_writes": AsyncPostgresSaver,
    "_dump_writes": AsyncPostgresSaver,
    "_search_where": AsyncPostgresSaver,
    "_prepare_batch_search_queries": AsyncPostgresStore,
    "_batch_put_ops": AsyncPostgresStore,
    "_get_batch_list_namespaces_queries": AsyncPostgresStore,
    "_get_filter_condition": AsyncPostgresStore,
    "_ensure_refresh": store_base,
    "_decode_ns_bytes": postgres_store,
    "_row_to_search_item": postgres_store,
    "_aqueue": AsyncPostgresStore,
    "_loop": AsyncPostgresStore,
    "_task": AsyncPostgresStore,
    "_ensure_task": AsyncPostgresStore,
}


@pytest.mark.parametrize("name", PRIVATE)
def test_upstream_still_has(name):
    owner = PRIVATE[name]
    if owner is None:
        assert f"self.{name} = " in inspect.getsource(AsyncPostgresSaver.__init__)
    else:
        assert hasattr(owner, name)


_UPSTREAM = ("langgraph", "langchain_core.language_models._")


def test_these_are_all_of_them():
    """What both modules import with an underscore or use of upstream's classes."""
    nodes = [
        node
        for module in ("upstream.py", "queued_store.py")
        for node in ast.walk(ast.parse((PACKAGE / "checkpoints" / module).read_text()))
    ]
    imported = {
        alias.name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_UPSTREAM)
        for alias in node.names
        if alias.name.startswith("_") or "._" in (node.module or "") or alias.name.isupper()
    }
    inherited = {
        node.attr for node in nodes if isinstance(node, ast.Attribute) and node.attr.startswith("_")
    } & {*dir(AsyncPostgresSaver), *dir(AsyncPostgresStore)}
    overridden = {
        node.name
        for node in nodes
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)
        and (hasattr(AsyncPostgresSaver, node.name) or hasattr(AsyncPostgresStore, node.name))
        and not node.name.startswith("__")
    }
    assert {*imported, *inherited, *overridden, "supports_pipeline"} - {"__init__"} == set(PRIVATE)


def test_cursor_is_upstreams_single_way_to_the_database():
    """Ours leaves out its lock and nothing else."""
    source = inspect.getsource(AsyncPostgresSaver)
    assert source.count("get_connection(self.conn)") == 1
    inside = inspect.getsource(AsyncPostgresSaver._cursor)
    assert "get_connection(self.conn)" in inside
    assert source.count("self.lock,") == inside.count("self.lock,") == 1
    for saver in (AsyncPostgresSaver, PooledSaver):
        assert list(inspect.signature(saver._cursor).parameters) == ["self", "pipeline"]
    assert "row_factory=dict_row" in inside
    assert "binary=True" in inside


async def test_select_sql_has_the_columns_that_a_tuple_is_made_of(database_url):
    async with open_pool(database_url) as pool, pool.connection() as connection:
        upstreams = await connection.execute(base.SELECT_SQL.encode())
        nothing = {"thread_ids": Text([]), "namespaces": Text([]), "channels": Jsonb([])}
        for latest in (LATEST, LATEST_SMALL):
            ours = await connection.execute(latest, nothing)
            assert _names(upstreams) == _names(ours) - {"number", "in_recovery", "bytes"}


def _names(cursor):
    return {column.name for column in cursor.description}


async def test_load_blobs_and_load_writes_make_the_tuple_that_upstream_makes(database_url):
    """Of the latest checkpoint, with a parent, blobs and the writes of several tasks."""
    async with open_pool(database_url) as pool, open_saver(pool) as saver:
        for number in (1, 2):
            await put(saver, "t", number, ["a", {"b": number}])
            await put_writes(saver, "t", number, {"w": number})
        await saver.aput_writes(config_of("t", 2), [("other", 1), ("more", b"x")], "another", "~p")
        ours = await saver.aget_tuple(config_of("t"))
    async with AsyncPostgresSaver.from_conn_string(database_url) as theirs:
        expected = await theirs.aget_tuple(config_of("t"))
    assert isinstance(ours, CheckpointTuple)
    assert ours == expected
    assert len(ours.pending_writes or ()) == 3


def test_upstream_fetches_pending_sends_for_the_versions_for_which_we_leave_it_to_upstream():
    assert '["v"] < 4 and' in inspect.getsource(AsyncPostgresSaver.aget_tuple)
    assert upstream._SENDS_ARE_A_CHANNEL == 4


def test_error_source_node_is_what_langgraph_writes_for_an_error_handler():
    assert "(ERROR_SOURCE_NODE," in inspect.getsource(_loop) + inspect.getsource(_runner)
    assert ERROR_SOURCE == _constants.ERROR_SOURCE_NODE


def test_delta_snapshot_is_the_type_that_upstreams_saver_looks_for():
    assert "_DeltaSnapshot" in inspect.getsource(AsyncPostgresSaver.aput)
    assert isinstance(DeltaSnapshot, type)


def test_messages_delta_reducer_is_the_one_whose_messages_langgraph_gives_ids():
    assert "if spec.reducer is _messages_delta_reducer" in inspect.getsource(_messages)
    assert GIVES_IDS is _messages._messages_delta_reducer


async def test_a_node_reads_a_channel_that_is_no_part_of_its_input():
    found: list[Any] = []

    async def node(_: Any, config: RunnableConfig) -> dict[str, Any]:
        found.extend(read_channel(config, "messages"))
        return {"messages": ["answer"]}

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(message.MessagesState)
    untyped: Any = node
    builder.add_node("node", untyped, input_schema=Nothing)
    builder.add_edge(START, "node")
    await builder.compile().ainvoke({"messages": ["question"]})
    assert [one.text for one in found] == ["question"]


def test_dedupe_ops_keeps_the_last_put_and_each_read_once():
    get = GetOp(("a",), "k")
    puts = [PutOp(("a",), "k", {"v": number}) for number in range(3)]
    search = SearchOp(("a",), filter={"x": 1})
    positions, ops = deduplicated([get, *puts, get, search, search])
    assert ops == [get, puts[-1], search]
    assert positions == [0, 1, 1, 1, 0, 2, 2]
    assert deduplicated([get]) == (None, [get])


def test_ensure_task_is_called_wherever_upstreams_store_queues_something():
    """Ours in place of its own; its queue holds a future and an operation."""
    source = inspect.getsource(batch.AsyncBatchedBaseStore)
    assert source.count("self._ensure_task()") > source.count("self._aqueue.put_nowait(")
    assert source.count("self._aqueue.put_nowait(") >= 5
    assert "create_task" not in source.replace(
        inspect.getsource(batch.AsyncBatchedBaseStore._ensure_task), ""
    )
    assert {"_aqueue", "_task"} <= set(batch.AsyncBatchedBaseStore.__slots__)
    assert QueuedStore._ensure_task is not batch.AsyncBatchedBaseStore._ensure_task
