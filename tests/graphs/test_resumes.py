"""What a strict resume must answer, judged on states of real graphs."""

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.pregel._utils import is_xxh3_128_hexdigest
from langgraph.types import Command

from headrace.errors import ResumeRefused
from headrace.graphs.resumes import is_map, refuse_resume, refuse_unknown_answers, start_of
from tests.support.graphs.door import asks_below, none, two

AT: Any = {"configurable": {"thread_id": "t"}}
UNKNOWN = "0" * 32


async def asked(builder: Any) -> Any:
    graph = builder.compile(checkpointer=InMemorySaver())
    await graph.ainvoke({"x": "1"}, AT)
    return graph


def message(resume: Any, state: Any) -> str:
    with pytest.raises(ResumeRefused) as refused:
        refuse_resume(resume, state)
    assert (refused.value.status, refused.value.code) == (409, "resume_refused")
    return refused.value.message


@pytest.mark.parametrize(
    "key", ["0" * 32, "f" * 32, "F" * 32, "0" * 31, "0" * 33, "", "g" * 32, "0" * 32 + "\n"]
)
def test_a_map_is_what_langgraph_takes_for_one(key):
    assert is_map({key: 1}) == is_xxh3_128_hexdigest(key)
    assert not is_map({key: 1, "other": 2})
    assert not is_map([key])


async def test_a_refusal_names_what_waits_and_its_nodes():
    state = await (await asked(two)).aget_state(AT)
    ids = {one.value: one.id for one in state.interrupts}
    for resume in ("yes", {"approve": True}, {ids["q1"]: 1, UNKNOWN: 2}, {UNKNOWN: 1}):
        told = message(resume, state)
        assert f"{ids['q1']} (node ask1), {ids['q2']} (node ask2)" in told
    assert UNKNOWN in message({UNKNOWN: 1}, state)
    for resume in ({ids["q1"]: 1}, {ids["q1"]: 1, ids["q2"]: 2}):
        refuse_resume(resume, state)


async def test_the_only_interrupt_takes_any_value_also_from_a_subgraph():
    state = await (await asked(asks_below)).aget_state(AT)
    (waiting,) = state.interrupts
    for resume in ("yes", {"approve": True}, {waiting.id: 1}, [1], 0, False):
        refuse_resume(resume, state)
    assert f"{waiting.id} (node below)" in message({UNKNOWN: 1}, state)


async def test_nothing_waits():
    state = await (await asked(none)).aget_state(AT)
    for resume in ("yes", {UNKNOWN: 1}):
        assert "send an input" in message(resume, state)
    graph = none.compile(checkpointer=InMemorySaver(), interrupt_before=["tell"])
    await graph.ainvoke({"x": "1"}, AT)
    assert "stands before tell" in message("yes", await graph.aget_state(AT))


async def test_answered_interrupts_of_an_earlier_checkpoint_may_be_answered_again():
    graph = await asked(two)
    waiting = await graph.aget_state(AT)
    first, second = (one.id for one in waiting.interrupts)
    await graph.ainvoke(Command(resume={first: 1}), AT)
    head = await graph.aget_state(AT)
    assert first not in {one.id for one in head.interrupts}
    assert "no interrupt with this id" in message({first: 1}, head)
    record = await graph.aget_state(start_of(waiting.config["configurable"]))
    refuse_resume({first: 1, second: 2}, record)
    refuse_unknown_answers({first: 1}, record)
    refuse_unknown_answers("yes", record)
    with pytest.raises(ResumeRefused):
        refuse_unknown_answers({UNKNOWN: 1}, record)


def test_the_start_of_a_run_from_a_subgraphs_checkpoint_is_the_threads_own():
    at = {"thread_id": "t", "checkpoint_ns": "below:1", "checkpoint_map": {"": "a", "below:1": "b"}}
    assert start_of(at)["configurable"] == {
        "thread_id": "t",
        "checkpoint_ns": "",
        "checkpoint_id": "a",
    }
    assert "checkpoint_id" not in start_of({"thread_id": "t"})["configurable"]


async def test_a_long_list_of_what_waits_is_cut():
    state = await (await asked(two)).aget_state(AT)
    task = state.tasks[0]
    many = task._replace(interrupts=tuple(_with_id(task.interrupts[0], n) for n in range(50)))
    told = message("yes", state._replace(tasks=(many,)))
    assert told.count("node ask1") == 20
    assert "and 30 more" in told


def _with_id(interrupt: Any, number: int) -> Any:
    return type(interrupt)(value=interrupt.value, id=f"{number:032x}")
