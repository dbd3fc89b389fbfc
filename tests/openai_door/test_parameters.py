"""Which parameters reach the graph, and which are refused."""

import pytest

from headrace.errors import InvalidRequest
from headrace.openai_door.parameters import passed_on

TOOLS = [{"type": "function", "function": {"name": "x"}}]


def test_a_usual_value_is_the_graphs_if_its_context_schema_names_it():
    # Its own default may be another.
    given = {"temperature": 1, "tools": [], "prompt_cache_key": "x", "n": 1, "seed": None}
    fields = frozenset(given) | {"topic"}
    passed = passed_on(given, "agent", fields)
    assert passed == {"temperature": 1, "tools": [], "prompt_cache_key": "x"}
    assert passed_on(given, "agent", frozenset()) == {}


def test_tools_may_not_be_forbidden_where_nothing_would_read_it():
    assert passed_on({"tool_choice": "none", "tools": []}, "agent", frozenset()) == {}
    given = {"tool_choice": "none", "tools": TOOLS}
    assert passed_on(given, "agent", frozenset(given)) == given
    with pytest.raises(InvalidRequest, match="tool_choice: the context schema"):
        passed_on(given, "agent", frozenset({"tools"}))
