"""What a graph gets to see."""

from uuid import UUID

import pytest
from langgraph.types import Command, Send

from headrace.auth.principal import ANONYMOUS, Principal
from headrace.db.tables import AssistantRow
from headrace.errors import BadRequest
from headrace.runs.named_checkpoint import named_checkpoint
from headrace.runs.run_kwargs import run_kwargs
from headrace.runs.schemas import RunCreate
from headrace.worker.graph_config import graph_config, graph_input

RUN, ASSISTANT = UUID(int=1), UUID(int=2)


def kwargs(assistant_config=None, **body):
    config = assistant_config or {}
    assistant = AssistantRow(config=config, context=config.get("configurable", {}))
    return run_kwargs(assistant, RunCreate(assistant_id="a", **body), temporary=False)


def config_of(stored, principal=ANONYMOUS):
    return graph_config(
        stored,
        run_id=RUN,
        thread_id="t",
        assistant_id=ASSISTANT,
        graph_id="g",
        principal=principal,
        metadata={"graph_id": "g"},
        request_id="r",
        recursion_limit=25,
    )


def test_the_run_says_which_run_it_is_whatever_the_caller_says():
    got = config_of(kwargs(config={"configurable": {"thread_id": "mine", "run_id": "x", "k": 1}}))
    seen = got["configurable"]
    assert (seen["thread_id"], seen["run_id"], seen["k"]) == ("t", str(RUN), 1)


def test_wiring_keys_do_not_pass():
    got = config_of(kwargs(config={"configurable": {"__pregel_send": "x"}}))
    assert not [key for key in got["configurable"] if key.startswith("__")]


def test_the_assistants_configuration_stands_below_the_callers():
    stored = kwargs({"configurable": {"a": 1, "b": 1}}, config={"configurable": {"b": 2}})
    got = config_of(stored)["configurable"]
    assert (got["a"], got["b"]) == (1, 2)


def test_the_anonymous_caller_may_name_a_user():
    stored = kwargs(config={"configurable": {"user_id": "ada"}})
    assert config_of(stored)["configurable"]["user_id"] == "ada"
    assert config_of(kwargs())["configurable"]["user_id"] == ""


def test_a_known_caller_is_seen_as_such():
    got = config_of(kwargs(), Principal("ada"))["configurable"]
    assert (got["user_id"], got["langgraph_auth_user_id"]) == ("ada", "ada")


def test_nobody_forges_a_known_caller():
    forged = {"user_id": "eve", "langgraph_auth_user": {"identity": "eve"}, "k": 1}
    forged |= {"langgraph_auth_user_id": "eve", "langgraph_auth_permissions": ["all"]}
    for stored in (kwargs(config={"configurable": forged}), kwargs({"configurable": forged})):
        got = config_of(stored, Principal("ada"))["configurable"]
        assert (got["user_id"], got["langgraph_auth_user_id"], got["k"]) == ("ada", "ada", 1)
        assert got["langgraph_auth_user"].identity == "ada"
        assert list(got["langgraph_auth_permissions"]) == []
        anonymous = config_of(stored)["configurable"]
        assert (anonymous["user_id"], anonymous["langgraph_auth_user_id"]) == ("eve", "")
        assert "langgraph_auth_user" not in anonymous


def test_the_recursion_limit_is_the_callers_if_there_is_one():
    assert config_of(kwargs())["recursion_limit"] == 25
    assert config_of(kwargs(config={"recursion_limit": 7}))["recursion_limit"] == 7


def test_context_and_configurable_exclude_each_other():
    with pytest.raises(BadRequest, match="both"):
        kwargs(config={"configurable": {"a": 1}}, context={"b": 2})


def test_either_is_found_under_both_names_above_what_the_assistant_says():
    own = {"configurable": {"a": 1, "b": 1}}
    for given in ({"config": {"configurable": {"b": 2}}}, {"context": {"b": 2}}):
        stored = kwargs(own, **given)
        assert stored["context"] == {"a": 1, "b": 2}
        assert stored["config"]["configurable"] == {"a": 1, "b": 2}


def test_an_assistants_wiring_keys_do_not_pass_either():
    stored = kwargs({"configurable": {"__pregel_send": "x", "a": 1}})
    assert stored["config"]["configurable"] == {"a": 1}


CHECKPOINT = "1f0a0000-0000-6000-8000-000000000001"


@pytest.mark.parametrize(
    "body",
    [
        {"checkpoint_id": CHECKPOINT},
        {"checkpoint": {"checkpoint_id": CHECKPOINT, "checkpoint_ns": "", "thread_id": "t"}},
        {"config": {"configurable": {"checkpoint_id": CHECKPOINT.upper()}}},
    ],
)
def test_a_checkpoint_can_be_named_in_three_ways(body):
    named = named_checkpoint(RunCreate(assistant_id="a", **body), "t")
    assert named is not None
    assert (named.root, named.configurable) == (CHECKPOINT, {"checkpoint_id": CHECKPOINT})


def test_a_checkpoint_of_a_subgraph_comes_with_those_above_it():
    by_namespace = {"": CHECKPOINT, "inner:1": CHECKPOINT}
    given = {"checkpoint_ns": "inner:1", "checkpoint_map": by_namespace}
    named = named_checkpoint(RunCreate(assistant_id="a", checkpoint=given), "t")
    assert named is not None
    assert (named.root, named.ids, named.configurable) == (None, by_namespace, given)


def test_only_the_request_says_which_checkpoint():
    """A context may have a field of that name."""
    stored = kwargs(context={"checkpoint_id": "mine"})
    assert stored["config"]["configurable"] == {}
    assert stored["context"] == {"checkpoint_id": "mine"}


def test_a_command_wins_over_an_input():
    got = graph_input(kwargs(input={}, command={"resume": "yes"}))
    assert isinstance(got, Command)
    assert got.resume == "yes"


def test_goto_takes_names_and_sends():
    got = graph_input(kwargs(command={"goto": ["a", {"node": "b", "input": 1}]}))
    assert got.goto == ["a", Send("b", 1)]


def test_old_clients_say_checkpoint_during():
    assert kwargs(checkpoint_during=False)["durability"] == "exit"
    assert kwargs()["durability"] == "async"
