"""Runs a workload on a contender, some runs at a time, and keeps how long each took."""

import asyncio
from collections import Counter
from time import perf_counter
from typing import Any
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph

from loadtests.bench.contenders import Contender
from loadtests.bench.workloads import Workload

Graph = CompiledStateGraph[Any, Any, Any, Any]


def thread_config(thread_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id}}


class Driver:
    """``runs_by_thread`` counts what was done on each thread, warming up included.

    A thread that is used again belongs to one worker: it has no two runs under way at once.
    """

    def __init__(self, contender: Contender, workload: Workload) -> None:
        self._contender = contender
        self._workload = workload
        self._graph: Graph = workload.build().compile(checkpointer=contender.saver)
        self._threads: list[str] = []
        self.runs_by_thread: Counter[str] = Counter()

    async def prepare(self, concurrency: int) -> None:
        """Give every worker its thread, where threads are kept."""
        if not self._workload.keeps_threads:
            return
        self._threads = [str(uuid4()) for _ in range(concurrency)]
        for thread_id in self._threads:
            await self._invoke(thread_id, self._workload.seed())
            self.runs_by_thread[thread_id] = 0

    async def drive(self, runs: int, concurrency: int) -> list[float]:
        """Do ``runs`` runs; the seconds of each, the commit of all it wrote included."""
        left = iter(range(runs))
        seconds: list[float] = []

        async def work(number: int) -> None:
            for _ in left:
                thread_id = self._threads[number] if self._threads else str(uuid4())
                started = perf_counter()
                await self._invoke(thread_id, self._input(number))
                seconds.append(perf_counter() - started)
                self.runs_by_thread[thread_id] += 1

        async with asyncio.TaskGroup() as group:
            for number in range(min(concurrency, runs)):
                group.create_task(work(number), name=f"bench-{number}")
        return seconds

    def _input(self, number: int) -> dict[str, Any]:
        if self._workload.keeps_threads and self._contender.saver is None:
            # Nobody remembers the thread, which must be as long all the same.
            return {
                "messages": [
                    *self._workload.seed()["messages"],
                    *self._workload.input()["messages"],
                ]
            }
        return self._workload.input()

    async def _invoke(self, thread_id: str, given: dict[str, Any]) -> None:
        async with self._contender.run():
            await self._graph.ainvoke(
                given,
                thread_config(thread_id),
                durability=None if self._contender.saver is None else "async",
            )
