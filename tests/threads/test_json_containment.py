"""Containment is what Postgres says it is; paths lead where they say."""

import json

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.threads.json_containment import at_path, contains

SCALARS = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "a", "b"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


@pytest.fixture(scope="module")
def database(module_database):
    with psycopg.connect(module_database, autocommit=True) as connection:
        yield connection


def test_containment_is_that_of_jsonb(database):
    @settings(max_examples=150, deadline=None)
    @given(OBJECTS, OBJECTS)
    def check(value, wanted):
        row = database.execute(
            "SELECT %s::jsonb @> %s::jsonb", (json.dumps(value), json.dumps(wanted))
        ).fetchone()
        assert contains(value, wanted) == row[0]

    check()


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("values", {"messages": [{"content": "a"}, {"content": "b"}], "n": 0}),
        ("values.messages[0].content", "a"),
        ("values.messages[-1].content", "b"),
        ("values.n", 0),
        ("values.messages[2]", None),
        ("values.messages[-3]", None),
        ("values.messages.content", None),
        ("values.n[0]", None),
        ("values.nothing.at.all", None),
    ],
)
def test_a_path_leads_where_it_says(path, found):
    document = {"values": {"messages": [{"content": "a"}, {"content": "b"}], "n": 0}}
    assert at_path(document, path) == found
