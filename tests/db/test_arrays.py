"""Columns as binary arrays: what is put in comes out of Postgres."""

import struct
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.db.arrays import (
    BigInteger,
    Boolean,
    Bytea,
    Column,
    Integer,
    Jsonb,
    Text,
    Uuid,
    register_columns,
)


@pytest.fixture(scope="module")
def database(module_database):
    with psycopg.connect(module_database, autocommit=True) as connection:
        register_columns(connection)
        yield connection


def unnested(database, column: Column, kind: str) -> list:
    """The elements as Postgres sees them, each as a row."""
    found = database.execute(f"SELECT item FROM unnest(%s::{kind}[]) AS item", (column,))
    return [row[0] for row in found]


CASES = [
    pytest.param(Text, "text", ["", "a", '{x,"y"}', "\\", "日本 \U0001f600", "NULL"], id="text"),
    pytest.param(Integer, "int4", [0, -1, 2**31 - 1, -(2**31)], id="int4"),
    pytest.param(BigInteger, "int8", [0, -1, 2**63 - 1, -(2**63)], id="int8"),
    pytest.param(Boolean, "bool", [True, False, True], id="bool"),
    pytest.param(Bytea, "bytea", [b"", b"\x00\xff", b"x" * 100_000], id="bytea"),
    pytest.param(Uuid, "uuid", [UUID(int=0), UUID(int=2**128 - 1), uuid4()], id="uuid"),
]


@pytest.mark.parametrize(("column", "kind", "values"), CASES)
def test_every_kind_of_column_comes_back_as_it_went(database, column, kind, values):
    given_form = [value.encode() if isinstance(value, str) else value for value in values]
    assert unnested(database, column(given_form), kind) == values


@pytest.mark.parametrize("column", [Text, Bytea, Jsonb, Boolean, Integer, BigInteger, Uuid])
def test_an_empty_column_has_no_rows(database, column):
    (name,) = database.execute(
        "SELECT typname FROM pg_type WHERE oid = %s", (column.oid,)
    ).fetchone()
    assert unnested(database, column([]), name.removeprefix("_")) == []


@pytest.mark.parametrize("column", [Text, Bytea, Jsonb, Boolean, Integer, BigInteger, Uuid])
def test_the_oids_are_those_of_the_type_and_its_elements(database, column):
    found = database.execute("SELECT typelem FROM pg_type WHERE oid = %s", (column.oid,)).fetchone()
    assert found == (column.element_oid,)


def test_json_comes_back_as_it_went(database):
    texts = [b"{}", b"null", b"[1, 2]", '{"ключ": "\U0001f600"}'.encode()]
    assert unnested(database, Jsonb(texts), "jsonb") == [{}, None, [1, 2], {"ключ": "\U0001f600"}]


@pytest.mark.parametrize(("column", "kind"), [(Text, "text"), (Bytea, "bytea"), (Jsonb, "jsonb")])
def test_none_is_null_and_nothing_else_is(database, column, kind):
    values = [None, b"1", None, b"2", None]
    found = database.execute(
        f"SELECT item IS NULL FROM unnest(%s::{kind}[]) AS item", (column(values),)
    ).fetchall()
    assert [row[0] for row in found] == [True, False, True, False, True]


def test_a_column_is_prepared_like_any_parameter(database):
    for number in range(8):
        found = database.execute(
            "SELECT sum(n) FROM unnest(%s::int[]) AS n", (Integer([number, 1]),), prepare=True
        ).fetchone()
        assert found == (number + 1,)


@pytest.mark.parametrize(
    ("column", "values"), [(Integer, [2**31]), (Integer, ["1"]), (BigInteger, [2**63])]
)
def test_what_does_not_fit_is_refused_where_it_is_put_in(column, values):
    with pytest.raises(struct.error):
        column(values)


@pytest.mark.parametrize(
    ("column", "kind", "values"),
    [
        (Text, "text", [b"nul \0"]),
        (Text, "text", [b"\xff"]),
        (Jsonb, "jsonb", [b"{"]),
        (Jsonb, "jsonb", [b'"\\u0000"']),
    ],
)
def test_what_postgres_does_not_take_is_a_data_error_and_the_connection_lives(
    database, column, kind, values
):
    with pytest.raises(psycopg.DataError):
        unnested(database, column(values), kind)
    assert unnested(database, Integer([1]), "int4") == [1]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
            st.none() | st.binary(),
            st.integers(-(2**31), 2**31 - 1),
            st.integers(-(2**63), 2**63 - 1),
            st.booleans(),
            st.uuids(),
        ),
        max_size=20,
    )
)
def test_columns_side_by_side_come_back_row_by_row(database, rows):
    texts, blobs, integers, bigs, flags, ids = zip(*rows, strict=True) if rows else [()] * 6
    found = database.execute(
        "SELECT * FROM unnest(%s::text[], %s::bytea[], %s::int[], %s::bigint[], %s::bool[],"
        " %s::uuid[])",
        (
            Text([None if text is None else text.encode() for text in texts]),
            Bytea(blobs),
            Integer(integers),
            BigInteger(bigs),
            Boolean(flags),
            Uuid(ids),
        ),
    ).fetchall()
    assert found == rows
