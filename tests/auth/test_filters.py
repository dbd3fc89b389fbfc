"""Filters of handlers: Postgres and plain Python find the same rows by them."""

import json
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, select, text

from headrace.auth.filters import WrongFilter, compiled, with_filter
from headrace.auth.principal import Principal
from headrace.auth.row_scope import scope_texts, scope_values, visible_text, visible_thread
from headrace.db.tables import ThreadRow

#: Few values, so that they meet. JSON tells 1 from true, and not from 1.0.
SCALARS = st.sampled_from([None, True, False, 0, 1, 1.0, 2.5, "", "1", "red", "blue"])
VALUES = st.recursive(
    SCALARS,
    lambda part: (
        st.lists(part, max_size=3) | st.dictionaries(st.sampled_from("ab"), part, max_size=2)
    ),
    max_leaves=5,
)
KEYS = st.sampled_from(["owner", "teams"])
CONDITIONS = st.one_of(
    VALUES,
    st.builds(lambda value: {"$eq": value}, VALUES),
    st.builds(lambda value: {"$contains": value}, SCALARS | st.lists(SCALARS, min_size=1)),
)


@pytest.fixture(scope="module")
def connection(module_database: str) -> Iterator[Connection]:
    """With one thread."""
    url = module_database.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as opened:
        opened.execute(text("INSERT INTO threads (thread_id, tenant, owner) VALUES ('t', 'a', '')"))
        yield opened
    engine.dispose()


def restricted(wanted: dict[str, Any]) -> Principal:
    found = compiled(wanted)
    return Principal("ada", tenant="a", filter=found.filter, equal=found.equal)


def seen(connection: Connection, principal: Principal, metadata: dict[str, Any]) -> set[bool]:
    """Whether the caller sees a thread with this metadata, by each form of the condition."""
    connection.execute(
        text("UPDATE threads SET metadata = CAST(:metadata AS jsonb)"),
        {"metadata": json.dumps(metadata)},
    )
    listed = " AND ".join(scope_texts(principal))
    values = scope_values(principal)
    return {
        connection.exec_driver_sql(f"SELECT 1 FROM threads WHERE {listed}", values).first()
        is not None,
        connection.execute(
            text(f"SELECT 1 FROM threads WHERE {visible_text('threads')}"), values
        ).first()
        is not None,
        connection.execute(select(ThreadRow.thread_id).where(visible_thread(principal))).first()
        is not None,
    }


def plain(value: Any) -> Any:
    """A value that equals another one if JSON has no difference between them."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return isinstance(value, bool), value


def matches(metadata: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """What docs/auth-handlers.md says of a filter."""
    for key, condition in wanted.items():
        if key not in metadata:
            return False
        value = metadata[key]
        if isinstance(condition, dict) and "$contains" in condition:
            parts = condition["$contains"]
            parts = parts if isinstance(parts, list) else [parts]
            if not isinstance(value, list):
                return False
            if any(plain(part) not in plain(value) for part in parts):
                return False
        else:
            equal = condition.get("$eq", condition) if isinstance(condition, dict) else condition
            if plain(value) != plain(equal):
                return False
    return True


METADATA = st.dictionaries(KEYS, VALUES, max_size=2)


@given(metadata=METADATA, wanted=st.dictionaries(KEYS, CONDITIONS, min_size=1, max_size=2))
@example(metadata={"teams": ["red", "blue"]}, wanted={"teams": []})
@example(metadata={"teams": ["red", "blue"]}, wanted={"teams": {"$eq": ["red"]}})
@example(metadata={"teams": ["red", "blue"]}, wanted={"teams": ["blue", "red"]})
@example(metadata={"teams": {"a": 1}}, wanted={"teams": {}})
@example(metadata={"teams": {"a": 1}}, wanted={"teams": {"$eq": {}}})
@example(metadata={"teams": {"a": []}}, wanted={"teams": {"a": []}})
@example(metadata={"teams": [], "owner": "red"}, wanted={"teams": [], "owner": {"$eq": "red"}})
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_postgres_finds_what_the_filter_says(connection, metadata, wanted):
    assert seen(connection, restricted(wanted), metadata) == {matches(metadata, wanted)}


@given(metadata=METADATA, wanted=st.dictionaries(KEYS, CONDITIONS, min_size=1, max_size=2))
@example(metadata={"teams": ["red"]}, wanted={"teams": ["blue"]})
@example(metadata={"teams": [1]}, wanted={"teams": {"$contains": True}})
@settings(max_examples=200, deadline=None)
def test_a_caller_sees_what_it_makes(metadata, wanted):
    assert matches(with_filter(metadata, restricted(wanted)), wanted)


@pytest.mark.parametrize(
    "wanted",
    [
        {"a": float("nan")},
        {"a": {"$eq": [1, {"b": float("inf")}]}},
        {"a": {"$contains": float("-inf")}},
        {"a": {"$contains": {}}},
        {"a": {"$contains": [{"id": 1}]}},
        {"a": {"$contains": [[]]}},
        {"a": {1: 2}},
    ],
)
def test_a_filter_that_json_has_not_or_that_many_rows_match_is_refused(wanted):
    with pytest.raises(WrongFilter):
        compiled(wanted)


def test_a_filter_that_contains_itself_is_refused():
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(WrongFilter):
        compiled({"a": endless})


def test_the_index_of_metadata_finds_whole_values_too(connection):
    """The condition stays one that the index has, beside the exact one."""
    principal = restricted({"teams": ["red"]})
    listed = " AND ".join([*scope_texts(principal)[1:], "NOT temporary"])
    connection.exec_driver_sql("SET enable_seqscan = off")
    rows = connection.exec_driver_sql(
        f"EXPLAIN (FORMAT json) SELECT 1 FROM threads WHERE {listed}", scope_values(principal)
    )
    plan = orjson.dumps(rows.scalar_one()).decode()
    connection.exec_driver_sql("SET enable_seqscan = on")
    assert "threads_metadata_idx" in plan
