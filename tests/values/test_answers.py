"""What a run answers: all that it waits for, and what its output schema names."""

import pytest

from tests.values.calls import events, get, new_thread, run_of, wait


@pytest.mark.parametrize(
    ("graph", "asking"),
    [("parallel", ["one", "two", "three"]), ("around", ["one", "two", "three", "four"])],
)
async def test_all_interrupts_are_shown_everywhere(client, graph, asking):
    thread_id, given = await new_thread(client), {"input": {"question": "?"}}
    answer = await wait(client, thread_id, graph, **given)
    joined = await get(client, f"/threads/{thread_id}/runs/{await run_of(client, thread_id)}/join")
    state = await get(client, f"/threads/{thread_id}/state")
    thread = await get(client, f"/threads/{thread_id}")
    shown = [
        answer["__interrupt__"],
        joined["__interrupt__"],
        state["interrupts"],
        [one for some in thread["interrupts"].values() for one in some],
        [one for task in state["tasks"] for one in task["interrupts"]],
    ]
    for interrupts in shown:
        assert sorted(one["value"]["from"] for one in interrupts) == sorted(asking)
        assert {one["id"] for one in interrupts} == {one["id"] for one in shown[0]}
    stateless = await client.post("/runs/wait", json={"assistant_id": graph, **given})
    assert len(stateless.json()["__interrupt__"]) == len(asking)
    streamed = [
        one["value"]["from"]
        for name, data in await events(
            client, await new_thread(client), graph, stream_mode=["updates"], **given
        )
        if name == "updates"
        for one in data.get("__interrupt__", ())
    ]
    assert sorted(streamed) == sorted(asking)


async def test_what_is_not_yet_answered_is_asked_again(client):
    thread_id = await new_thread(client)
    answer = await wait(client, thread_id, "parallel", input={"question": "?"})
    ids = {one["value"]["from"]: one["id"] for one in answer["__interrupt__"]}
    answer = await wait(client, thread_id, "parallel", command={"resume": {ids["one"]: "1"}})
    assert {one["value"]["from"] for one in answer["__interrupt__"]} == {"two", "three"}
    rest = {ids["two"]: "2", ids["three"]: "3"}
    answer = await wait(client, thread_id, "parallel", command={"resume": rest})
    assert answer == {"question": "?", "answers": ["1", "plain", "3", "2"]} or (
        sorted(answer["answers"]) == ["1", "2", "3", "plain"] and "__interrupt__" not in answer
    )


WHOLE = {"question": "?", "answer": "h", "secret": "s2", "hidden": "h"}


async def test_a_run_answers_with_its_output_schema_alone(client):
    thread_id, given = await new_thread(client), {"input": {"question": "?"}}
    assert await wait(client, thread_id, "scoped", **given) == {"answer": "h"}
    told = await events(client, thread_id, "scoped", stream_mode=["values", "updates"], **given)
    assert ("updates", {"first": None}) in told
    assert ("updates", {"second": {"answer": "h"}}) in told
    assert {key for name, data in told if name == "values" for key in data} == {"answer"}
    # Who asks for the state gets the state.
    path = f"/threads/{thread_id}"
    assert await get(client, f"{path}/runs/{await run_of(client, thread_id)}/join") == WHOLE
    assert (await get(client, f"{path}/state"))["values"] == WHOLE
    assert (await get(client, path))["values"] == WHOLE


async def test_so_does_one_that_waited_in_the_queue(client):
    """It may be executed elsewhere: its values are read, not handed over."""
    thread_id, given = await new_thread(client), {"input": {"question": "?"}}
    assert await wait(client, thread_id, "scoped", after_seconds=0.1, **given) == {"answer": "h"}


async def test_so_do_subgraphs(client):
    given = {"input": {"question": "?"}}
    assert await wait(client, await new_thread(client), "scoped_around", **given) == {"answer": "h"}
    told = await events(
        client,
        await new_thread(client),
        "scoped_around",
        stream_mode=["values", "updates"],
        stream_subgraphs=True,
        **given,
    )
    assert "secret" not in str(told)
    assert "hidden" not in str(told)


async def test_an_interrupt_shows_no_private_values(client):
    thread_id = await new_thread(client)
    answer = await wait(client, thread_id, "scoped_asking", input={"question": "?"})
    assert set(answer) == {"__interrupt__"}
    assert await wait(client, thread_id, "scoped_asking", command={"resume": "yes"}) == {
        "answer": "yes"
    }
