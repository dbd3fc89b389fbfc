"""Runs the graph of an attempt on its input, and publishes what it streams."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained
from langgraph.types import Command

from headrace.auth.store_scope import store_scope
from headrace.checkpoints.run_saver import RunSaver
from headrace.checkpoints.scoped_store import in_store_scope
from headrace.checkpoints.serializer import showing_values
from headrace.checkpoints.write_size import MAX_CHECKPOINT_BYTES, least_bytes
from headrace.error_text import error_message
from headrace.events.modes import NamedValue, Translator
from headrace.events.protocol_events import ProtocolTranslator
from headrace.graphs.commands import refuse_unknown_nodes
from headrace.graphs.registry import Graph, GraphRegistry
from headrace.usage.meter import UsageMeter
from headrace.worker.channels import Channels
from headrace.worker.execution import Execution
from headrace.worker.graph_config import graph_config, use_latest_checkpoint, with_store
from headrace.worker.graph_stream import Part, graph_stream, translator_for
from headrace.worker.run_result import RunResult
from headrace.worker.starting_point import input_at_start, refuse_unasked


class GraphRunner:
    """Keeps nothing between runs: what belongs to a run is in its :class:`Execution`.

    :param recursion_limit: supersteps of a run whose request names no limit.
    :param max_checkpoint_bytes: the limit of the saver.
    """

    def __init__(
        self,
        registry: GraphRegistry,
        saver: RunSaver,
        channels: Channels,
        usage: UsageMeter,
        *,
        recursion_limit: int,
        max_checkpoint_bytes: int = MAX_CHECKPOINT_BYTES,
    ) -> None:
        self._registry = registry
        self._saver = saver
        self._channels = channels
        self._usage = usage
        self._recursion_limit = recursion_limit
        self._max_checkpoint_bytes = max_checkpoint_bytes

    async def run(self, execution: Execution, result: RunResult) -> None:
        """Run the graph until it ends or stops at a boundary, and note in ``result`` what it did.

        It raises whatever the graph raises: the caller decides how the run ends.
        """
        request, kwargs = execution.request, execution.request.kwargs
        await self._channels.continue_attempt(execution.channel, execution.token)
        execution.channel.publish("metadata", _metadata_event(execution))
        config = self._config(execution)
        calls = await self._usage.begin(
            execution.usage, tenant=request.tenant, owner=request.principal.identity
        )
        with (
            calls.counted(),
            in_store_scope(store_scope(request.principal)),
            execution.work.entered(),
            execution.trace.entered(),
            self._saver.run(
                execution.token,
                durability=kwargs["durability"],
                fresh_thread=request.thread_id if execution.attempt.fresh_thread else None,
                usage=execution.usage,
            ) as writes,
        ):
            execution.writes = writes
            writes.trace = execution.trace
            await self._stream_graph(execution, result, config)
            if not execution.stopped_at_boundary:
                await writes.store_command()

    def _config(self, execution: Execution) -> RunnableConfig:
        request = execution.request
        config = graph_config(
            request.kwargs,
            run_id=request.run_id,
            thread_id=request.thread_id,
            assistant_id=request.assistant_id,
            graph_id=request.graph_id,
            principal=request.principal,
            metadata={**execution.attempt.metadata, "run_attempt": execution.attempt.number},
            request_id=request.request_id,
            recursion_limit=self._recursion_limit,
        )
        execution.trace.observe(config)
        return config

    async def _stream_graph(
        self, execution: Execution, result: RunResult, config: RunnableConfig
    ) -> None:
        request, kwargs = execution.request, execution.request.kwargs
        given = await input_at_start(self._saver, config, execution)
        async with self._registry.for_run(
            request.graph_id, config, access="threads.create_run", context=kwargs["context"]
        ) as graph:
            try:
                await self._execute(graph, given, config, execution, result)
            except (Exception, asyncio.CancelledError):
                await result.final_state.read(graph, request.thread_id)
                raise

    async def _execute(
        self,
        graph: Graph,
        given: Any,
        config: RunnableConfig,
        execution: Execution,
        result: RunResult,
    ) -> None:
        kwargs, failed = execution.request.kwargs, True
        refuse_unknown_nodes(graph.nodes, kwargs)
        if kwargs.get("strict_resume") and isinstance(given, Command):
            await refuse_unasked(graph, given.resume, config, execution)
        execution.progress.begin(graph)
        control = execution.control
        if kwargs["command"] is not None:
            # A graph that stopped before it has applied its command would lose it.
            control.hold()
        elif kwargs["durability"] != "exit":
            # With ``exit``, LangGraph writes no checkpoint of a nested graph that stops.
            control.stop_inside(graph)
        translator = translator_for(kwargs, execution.request.graph_id)
        try:
            self._publish(execution, translator.at("begins"))
            chunks = graph_stream(graph, given, kwargs, with_store(config, graph.store), control)
            await self._follow(chunks, translator, execution, result)
            self._publish(execution, translator.at("ends"))
            failed = False
        except GraphDrained:
            # A node may have stopped a graph of its own.
            if not control.asked:
                raise
            self._publish(execution, translator.at("stops"))
            execution.stopped_at_boundary, failed = True, False
        except Exception as error:
            self._publish(execution, translator.at("fails", error_message(error)))
            raise
        finally:
            execution.progress.end(failed=failed)
        if result.interrupted and not execution.stopped_at_boundary:
            # The next run on the thread must not resume from an older checkpoint.
            use_latest_checkpoint(config)
            with showing_values():
                # Only what the thread waits for is read of it. The next run may fail over the rest.
                result.note_state(await graph.aget_state(config))
            self._publish(execution, translator.at("waits", result.thread_interrupts))

    def _publish(self, execution: Execution, told: Iterable[NamedValue]) -> None:
        """Publish a few events."""
        if execution.channel.wanted:
            for name, data in told:
                execution.channel.publish(name, data)

    async def _follow(
        self,
        chunks: AsyncIterator[Part],
        translator: Translator | ProtocolTranslator,
        execution: Execution,
        result: RunResult,
    ) -> None:
        """Take what the graph streams: for its result, its progress and its events."""
        channel, progress, writes = execution.channel, execution.progress, execution.writes
        async for part in chunks:
            namespace, mode, chunk = part if len(part) == 3 else ((), *part)
            if mode != "events" and writes is not None and writes.may_hold_command:
                # The graph goes on, so it has applied its command.
                await writes.store_command()
                execution.control.free()
            if not namespace and mode in ("values", "updates"):
                progress.note(mode, chunk)
                result.note_chunk(mode, chunk)
            if progress.first_event_seconds is None and translator.shows(mode):
                progress.note_event(mode, chunk)
            if channel.wanted and not self._exceeds_checkpoint(mode, chunk):
                for name, data in translator.events(namespace, mode, chunk):
                    channel.publish(name, data)
                    if channel.full:
                        await channel.room()
                channel.check_bounds()

    def _exceeds_checkpoint(self, mode: str, chunk: Any) -> bool:
        """Whether a chunk is too large for a checkpoint: the run fails at its next checkpoint.

        Do not send such a chunk: its JSON would take twice its size in memory. Chunks of messages
        are not measured: they come thousands a second, and almost all of them are tokens.
        """
        return (
            mode not in ("messages", "custom") and least_bytes(chunk) > self._max_checkpoint_bytes
        )


def _metadata_event(execution: Execution) -> dict[str, Any]:
    return {"run_id": str(execution.run_id), "attempt": execution.attempt.number}
