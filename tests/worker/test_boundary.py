"""A drain stops graphs at the ends of their steps: what is stopped, where, and what is repeated."""

import asyncio
import operator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.errors import GraphDrained
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.runtime import RunControl, Runtime
from langgraph.types import interrupt

from headrace.queue.rows import QueuedRun
from headrace.unavailable_errors import Draining
from tests.support.runs import run_request
from tests.support.waiting import eventually
from tests.support.workers import KWARGS, open_worker


class Steps(TypedDict, total=False):
    done: Annotated[list[str], operator.add]


class Ledger:
    """Which steps have begun and ended, in order, and for how long each lasts."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []

    def step(self, name: str, seconds: float = 0.2) -> Any:
        async def execute(state: Steps) -> Steps:
            return await self.work(name, seconds)

        return execute

    async def work(self, name: str, seconds: float) -> Steps:
        self.begun.append(name)
        await asyncio.sleep(seconds)
        self.ended.append(name)
        return {"done": [name]}

    def chain(self, *names: str, seconds: float = 0.2) -> StateGraph[Any, Any, Any, Any]:
        builder = StateGraph(Steps)
        before = START
        for name in names:
            builder.add_node(name, self.step(name, seconds))
            builder.add_edge(before, name)
            before = name
        return builder


def asked(**changes: Any) -> Any:
    given = {"input": {"done": []}, **changes}
    return replace(run_request("t"), kwargs={**KWARGS, **given})


def status(database: Any, run: Any) -> Any:
    return database.execute(
        "SELECT status, attempt, failures FROM runs WHERE run_id = %s", (run.run_id,)
    ).fetchone()


def drained(worker: Any) -> dict[str, float]:
    counter = worker._metrics.runs._drained
    return {how: counter.labels(how)._value.get() for how in ("finished", "at_boundary", "cut")}


@asynccontextmanager
async def pair(url: str, graph: Any) -> Any:
    """A process that will drain, and one that takes no runs before the first has drained."""
    async with open_worker(url, graph=graph) as first, open_worker(url, graph=graph) as second:
        yield first, second


async def drain_in(
    ledger: Ledger, step: str, first: Any, run: Any, grace: float = 10.0
) -> dict[str, float]:
    """Drain ``first`` while ``step`` of the run goes on; how runs left it."""
    before = drained(first)
    assert not isinstance(await first.submit(run), QueuedRun)
    await eventually(lambda: step in ledger.begun)
    await first.retire()
    await first.finish(grace)
    return {how: number - before[how] for how, number in drained(first).items()}


async def done(worker: Any) -> Any:
    snapshot = await worker._executions._executor._runner._saver.aget_tuple(
        {"configurable": {"thread_id": "t"}}
    )
    return snapshot.checkpoint["channel_values"].get("done")


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("modes", [["values"], ["events"], ["messages-tuple", "custom"]])
async def test_no_step_is_begun_twice(database_url, database, durability, modes):
    ledger = Ledger()
    async with pair(database_url, ledger.chain("a", "b", "c")) as (first, second):
        run = asked(durability=durability, stream_mode=modes)
        left = await drain_in(ledger, "b", first, run)
        assert left == {"finished": 0, "at_boundary": 1, "cut": 0}
        await eventually(lambda: status(database, run) == ("success", 2, 0))
        assert ledger.begun == ledger.ended == ["a", "b", "c"]
        assert await done(second) == ["a", "b", "c"]


async def test_a_step_that_outlives_the_grace_is_cut_and_repeated(database_url, database):
    ledger = Ledger()
    async with pair(database_url, ledger.chain("a", "b", seconds=0.8)) as (first, second):
        run = asked()
        left = await drain_in(ledger, "b", first, run, grace=0.2)
        assert left == {"finished": 0, "at_boundary": 0, "cut": 1}
        await eventually(lambda: status(database, run) == ("success", 2, 0))
        assert (ledger.begun, ledger.ended) == (["a", "b", "b"], ["a", "b"])
        assert await done(second) == ["a", "b"]


async def test_a_run_whose_last_step_ends_has_ended(database_url, database):
    ledger = Ledger()
    async with pair(database_url, ledger.chain("a")) as (first, _):
        run = asked()
        assert (await drain_in(ledger, "a", first, run))["finished"] == 1
        assert status(database, run) == ("success", 1, 0)


async def test_without_another_process_a_run_goes_on(database_url, database):
    ledger = Ledger()
    async with open_worker(database_url, graph=ledger.chain("a", "b", "c")) as alone:
        run = asked()
        assert (await drain_in(ledger, "a", alone, run))["finished"] == 1
        assert status(database, run) == ("success", 1, 0)


async def test_without_another_process_a_long_run_stops_in_the_second_half_of_the_grace(
    database_url, database
):
    ledger = Ledger()
    names = [str(number) for number in range(20)]
    async with open_worker(database_url, graph=ledger.chain(*names)) as alone:
        run = asked()
        assert (await drain_in(ledger, "0", alone, run, grace=2.0))["at_boundary"] == 1
        assert status(database, run) == ("pending", 1, 0)
        assert 3 < len(ledger.begun) == len(ledger.ended) < 12


async def test_a_run_that_reaches_a_draining_process_is_queued_for_another(database_url, database):
    ledger = Ledger()
    async with pair(database_url, ledger.chain("a")) as (first, _):
        await first.retire()
        first.refuse_new()
        run = asked()
        assert isinstance(await first.submit(run), QueuedRun)
        await eventually(lambda: status(database, run) == ("success", 1, 0))
        first.refuse_all()
        with pytest.raises(Draining):
            await first.submit(replace(asked(), thread_id="u"))


async def test_a_run_that_reaches_the_last_process_is_refused(database_url, database):
    async with open_worker(database_url, graph=Ledger().chain("a")) as alone:
        await alone.retire()
        alone.refuse_new()
        with pytest.raises(Draining):
            await alone.submit(asked())
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (0,)


async def test_processes_that_drain_do_not_count_on_each_other(database_url):
    ledger = Ledger()
    async with pair(database_url, ledger.chain("a")) as (first, second):
        await first.retire()
        assert first._handover.has_successor
        await second.retire()
        assert not second._handover.has_successor
        await first._handover.look()
        assert not first._handover.has_successor


async def test_a_graph_that_is_a_node_stops_inside(database_url, database):
    ledger = Ledger()
    outer = ledger.chain("before")
    outer.add_node("inner", ledger.chain("x", "y", "z").compile())
    outer.add_edge("before", "inner")
    async with pair(database_url, outer) as (first, second):
        run = asked(subgraphs=True)
        assert (await drain_in(ledger, "x", first, run))["at_boundary"] == 1
        assert ledger.begun == ["before", "x"]
        await eventually(lambda: status(database, run) == ("success", 2, 0))
        assert ledger.begun == ledger.ended == ["before", "x", "y", "z"]
        assert (await done(second))[-3:] == ["x", "y", "z"]


async def test_with_durability_exit_a_graph_that_is_a_node_ends_first(database_url, database):
    ledger = Ledger()
    outer = ledger.chain("before")
    outer.add_node("inner", ledger.chain("x", "y").compile())
    outer.add_edge("before", "inner")
    outer.add_node("after", ledger.step("after"))
    outer.add_edge("inner", "after")
    async with pair(database_url, outer) as (first, _):
        run = asked(durability="exit")
        assert (await drain_in(ledger, "x", first, run))["at_boundary"] == 1
        assert ledger.begun == ["before", "x", "y"]
        await eventually(lambda: status(database, run) == ("success", 2, 0))
        assert ledger.begun == ledger.ended == ["before", "x", "y", "after"]


async def test_a_function_that_calls_a_graph_ends_first(database_url, database):
    ledger = Ledger()
    inner = ledger.chain("x", "y").compile()

    async def agent(state: Steps) -> Steps:
        ledger.begun.append("agent")
        try:
            found = await inner.ainvoke({"done": []})
        except Exception as error:
            found = {"done": [repr(error)]}
        ledger.ended.append("agent")
        return {"done": found["done"]}

    outer = StateGraph(Steps)
    outer.add_node("agent", agent)
    outer.add_node("after", ledger.step("after"))
    outer.add_edge(START, "agent")
    outer.add_edge("agent", "after")
    async with pair(database_url, outer) as (first, second):
        run = asked()
        assert (await drain_in(ledger, "x", first, run))["at_boundary"] == 1
        assert ledger.begun == ["agent", "x", "y"]
        await eventually(lambda: status(database, run) == ("success", 2, 0))
        assert ledger.begun == ["agent", "x", "y", "after"]
        assert await done(second) == ["x", "y", "after"]


async def test_steps_beside_a_graph_that_stops_inside_are_not_cut(database_url, database):
    ledger = Ledger()
    outer = StateGraph(Steps)
    outer.add_node("inner", ledger.chain("x", "y").compile())
    outer.add_node("beside", ledger.step("beside", 0.8))
    outer.add_edge(START, "inner")
    outer.add_edge(START, "beside")
    async with pair(database_url, outer) as (first, second):
        run = asked()
        assert (await drain_in(ledger, "x", first, run))["at_boundary"] == 1
        await eventually(lambda: status(database, run) == ("success", 2, 0))
        assert sorted(ledger.begun) == sorted(ledger.ended) == ["beside", "x", "y"]
        assert sorted(await done(second)) == ["beside", "x", "y"]


async def test_a_functional_graph_ends_within_the_grace(database_url, database):
    """It has one superstep, so no boundary; its tasks are not repeated."""
    ledger = Ledger()

    @task
    async def work(name: str) -> str:
        await ledger.work(name, 0.2)
        return name

    @entrypoint()
    async def flow(_: Any) -> list[str]:
        return [await work(name) for name in ("a", "b", "c")]

    async with pair(database_url, flow) as (first, _):
        run = asked()
        assert (await drain_in(ledger, "a", first, run))["finished"] == 1
        assert status(database, run) == ("success", 1, 0)
        assert ledger.begun == ["a", "b", "c"]


async def test_a_functional_graph_that_is_cut_repeats_the_task_in_flight_alone(
    database_url, database
):
    ledger = Ledger()

    @task
    async def work(name: str) -> str:
        await ledger.work(name, 0.5)
        return name

    @entrypoint()
    async def flow(_: Any) -> list[str]:
        return [await work(name) for name in ("a", "b", "c")]

    async with pair(database_url, flow) as (first, _):
        run = asked()
        assert (await drain_in(ledger, "b", first, run, grace=0.1))["cut"] == 1
        await eventually(lambda: status(database, run) == ("success", 2, 0))
        assert ledger.begun == ["a", "b", "b", "c"]


async def test_an_interrupt_at_the_boundary_ends_the_run(database_url, database):
    ledger = Ledger()
    async with pair(database_url, ledger.chain("a", "b")) as (first, _):
        run = asked(interrupt_before=["b"])
        assert (await drain_in(ledger, "a", first, run))["finished"] == 1
        assert status(database, run) == ("success", 1, 0)
        thread = database.execute("SELECT status FROM threads").fetchone()
        assert thread == ("interrupted",)


async def test_a_breakpoint_after_the_boundary_is_not_passed(database_url, database):
    ledger = Ledger()
    async with pair(database_url, ledger.chain("a", "b", "c")) as (first, _):
        run = asked(interrupt_before=["c"])
        assert (await drain_in(ledger, "a", first, run))["at_boundary"] == 1
        await eventually(lambda: status(database, run) == ("success", 2, 0))
        assert ledger.begun == ["a", "b"]
        assert database.execute("SELECT status FROM threads").fetchone() == ("interrupted",)


async def test_an_answer_to_an_interrupt_is_not_lost(database_url, database):
    ledger = Ledger()
    outer = ledger.chain("a")

    async def ask(state: Steps) -> Steps:
        answer = interrupt("go on?")
        return await ledger.work(f"asked:{answer}", 0.3)

    outer.add_node("ask", ask)
    outer.add_node("after", ledger.step("after"))
    outer.add_edge("a", "ask")
    outer.add_edge("ask", "after")
    async with pair(database_url, outer) as (first, second):
        run = asked()
        execution = await first.submit(run)
        await execution.outcome(10)
        resume = replace(asked(input=None, command={"resume": "yes"}))
        assert (await drain_in(ledger, "asked:yes", first, resume))["cut"] == 0
        await eventually(lambda: status(database, resume)[0] == "success")
        assert ledger.begun == ["a", "asked:yes", "after"]
        assert await done(second) == ["a", "asked:yes", "after"]


async def test_a_node_learns_of_the_drain(database_url, database):
    seen: list[bool] = []

    async def wait(state: Steps, runtime: Runtime[Any]) -> Steps:
        seen.append(runtime.drain_requested)
        while not runtime.drain_requested and not seen[1:]:
            await asyncio.sleep(0.02)
        seen.append(runtime.drain_requested)
        return {"done": ["wound up"]}

    graph = StateGraph(Steps)
    graph.add_node("wait", wait)
    graph.add_edge(START, "wait")
    async with pair(database_url, graph) as (first, _):
        run = asked()
        await first.submit(run)
        await eventually(lambda: bool(seen))
        await first.retire()
        await first.finish(10)
        assert seen == [False, True]
        assert status(database, run) == ("success", 1, 0)


async def test_a_graph_that_a_node_has_stopped_itself_is_a_failure(database_url, database):
    inner = Ledger().chain("x").compile()

    async def call(state: Steps) -> Any:
        control = RunControl()
        control.request_drain()
        return await inner.ainvoke({"done": []}, control=control)

    graph = StateGraph(Steps)
    graph.add_node("call", call)
    graph.add_edge(START, "call")
    async with open_worker(database_url, graph=graph) as worker:
        execution = await worker.submit(asked())
        outcome = await execution.outcome(10)
        assert outcome.status == "error"
        assert outcome.error["error"] == GraphDrained.__name__


async def test_a_cancel_at_the_boundary_wins(database_url, database):
    ledger = Ledger()
    async with pair(database_url, ledger.chain("a", "b")) as (first, _):
        run = asked()
        execution = await first.submit(run)
        await eventually(lambda: "a" in ledger.begun)
        execution.control.request_drain()
        database.execute(
            "UPDATE runs SET cancel_action = 'interrupt' WHERE run_id = %s", (run.run_id,)
        )
        await eventually(lambda: status(database, run)[0] == "interrupted")
        assert ledger.begun == ["a"]
