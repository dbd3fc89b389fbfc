"""A thread's values and state, read from its checkpoints through the graph that wrote them."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from uuid import UUID

import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.types import Interrupt, PregelTask, StateSnapshot

from headrace.checkpoints.answer_memory import AnswerMemory, Reading, StateIsLarge
from headrace.checkpoints.serializer import lenient
from headrace.containment import is_cancellation
from headrace.db.faults import DATABASE_ERRORS
from headrace.error_text import error_repr
from headrace.errors import AnswerTooLarge
from headrace.graphs.registry import Graph, GraphRegistry
from headrace.request_settings import AnswerSettings
from headrace.states.raw_values import raw_values, visible_metadata
from headrace.states.schemas import CheckpointRef, HistoryQuery, ThreadState
from headrace.unavailable_errors import AnswersFull, GraphNotMade, Unavailable

T = TypeVar("T")

_log = structlog.stdlib.get_logger("headrace.threads")

#: The row of a run names at most so many interrupts.
_MOST_INTERRUPTS = 100

#: Keys of a checkpoint's configuration that clients see.
_CHECKPOINT_KEYS = ("checkpoint_id", "thread_id", "checkpoint_ns", "checkpoint_map")

EMPTY = ThreadState(
    values={},
    next=[],
    tasks=[],
    metadata=None,
    created_at=None,
    checkpoint=None,
    parent_checkpoint=None,
    interrupts=[],
    checkpoint_id=None,
    parent_checkpoint_id=None,
)


class StateReader:
    """Reads states. If this server lacks the graph of a thread, it reads the raw channel values.

    The memory for a state belongs to the answer's :class:`Reading`, which the caller releases.
    """

    def __init__(
        self,
        registry: GraphRegistry,
        saver: BaseCheckpointSaver[Any],
        memory: AnswerMemory | None = None,
    ) -> None:
        self._registry = registry
        self._saver = saver
        self.memory = memory or AnswerMemory(AnswerSettings())

    async def read(
        self,
        thread_id: str,
        graph_id: str | None,
        *,
        subgraphs: bool = False,
        checkpoint: CheckpointRef | None = None,
        configurable: Mapping[str, Any] | None = None,
        reading: Reading | None = None,
    ) -> ThreadState:
        """The latest state, or the state at ``checkpoint``; :data:`EMPTY` if there is none.

        :param configurable: that of the thread's last run, for graphs that are made from it.
        :raises AnswerTooLarge, AnswersFull: as :meth:`Reading.admit`.
        """
        reading = reading or self.memory.reading()
        config = config_of(thread_id, checkpoint)

        async def ask(graph: Graph) -> ThreadState:
            return to_thread_state(await graph.aget_state(config, subgraphs=subgraphs))

        made_for = _made_for(config, configurable)
        with reading.current():
            state = await self._through_graph(thread_id, graph_id, made_for, ask)
            if state is None:
                reading.begin_again()
                found = await lenient(self._saver).aget_tuple(config)
                state = EMPTY if found is None else await self._raw(found)
        if state is EMPTY and checkpoint is not None and checkpoint.checkpoint_id is not None:
            asked = {"checkpoint_id": checkpoint.checkpoint_id, "thread_id": thread_id}
            return EMPTY.model_copy(
                update={"checkpoint": asked, "checkpoint_id": checkpoint.checkpoint_id}
            )
        return state

    async def before_run(
        self, thread_id: str, graph_id: str, start: RunnableConfig, configurable: Mapping[str, Any]
    ) -> StateSnapshot | None:
        """The state that a run would go on from; None if it cannot be read here.

        That is so if this server lacks the graph, the graph raises, or the state is too large for
        an answer.

        :param start: leads to the checkpoint that the run starts from.
        :param configurable: that of the run, for graphs that are made from it.
        """

        async def ask(graph: Graph) -> StateSnapshot:
            return await graph.aget_state(start)

        with self.memory.reading() as reading, reading.current():
            try:
                return await self._through_graph(
                    thread_id, graph_id, _made_for(start, configurable), ask
                )
            except (AnswerTooLarge, AnswersFull):
                return None

    async def page(
        self,
        thread_id: str,
        graph_id: str | None,
        query: HistoryQuery,
        *,
        limit: int,
        before: str | None,
        configurable: Mapping[str, Any] | None,
        reading: Reading,
    ) -> list[ThreadState]:
        """Up to ``limit`` states of the thread before the checkpoint ``before``, newest first.

        :param query: which states; its own ``limit`` and ``before`` are ignored.
        :raises AnswerTooLarge, AnswersFull: as :meth:`Reading.admit`.
        """
        config = config_of(thread_id, query.checkpoint)
        page: dict[str, Any] = {"limit": limit, "before": _before(before)}
        if query.metadata:
            page["filter"] = query.metadata

        async def ask(graph: Graph) -> list[ThreadState]:
            return [to_thread_state(one) async for one in graph.aget_state_history(config, **page)]

        made_for = _made_for(config, configurable)
        with reading.current():
            states = await self._through_graph(thread_id, graph_id, made_for, ask)
            if states is None:
                reading.begin_again()
                found = [one async for one in lenient(self._saver).alist(config, **page)]
                states = [await self._raw(one) for one in found]
        return states

    async def _through_graph(
        self,
        thread_id: str,
        graph_id: str | None,
        config: RunnableConfig,
        ask: Callable[[Graph], Awaitable[T]],
    ) -> T | None:
        """The result of ``ask``; None if this server lacks the graph, or if the graph raises.

        :raises Unavailable, AnswerTooLarge, StateIsLarge: from the reads. Errors of
            ``DATABASE_ERRORS`` and cancellations also pass through.
        """
        if graph_id is None or graph_id not in self._registry.ids():
            return None
        try:
            async with self._registry.for_run(graph_id, config) as graph:
                return await ask(graph)
        except GraphNotMade as error:
            _log.warning("state_read_raw", thread_id=thread_id, graph_id=graph_id, exc_info=error)
        except (Unavailable, AnswerTooLarge, StateIsLarge):
            raise
        except DATABASE_ERRORS:
            raise
        except BaseException as error:
            if is_cancellation(error):
                raise
            # User code runs here. A reducer may get an input on which it has failed before. A
            # factory runs without the configuration of a run. Stored values may be unreadable, too.
            # One such thread must not fail a page of threads.
            _log.warning("state_read_raw", thread_id=thread_id, graph_id=graph_id, exc_info=True)
        return None

    async def values_of_run(
        self, thread_id: str, graph_id: str, run_id: UUID, reading: Reading, *, output: bool
    ) -> Any:
        """The values of a run's last checkpoint; None if the run has no checkpoint.

        :param output: only values that the graph's output schema names.
        :raises AnswerTooLarge, AnswersFull: as :meth:`Reading.admit`.
        """
        at: dict[str, Any] = {"thread_id": thread_id, "checkpoint_ns": ""}
        with reading.current():
            saver = lenient(self._saver)
            which: dict[str, Any] = {"filter": {"run_id": str(run_id)}, "limit": 1}
            found = [item.config async for item in saver.alist({"configurable": at}, **which)]
            for checkpoint_id, _ in reading.rest:
                found.append({"configurable": {**at, "checkpoint_id": checkpoint_id}})
            if not found:
                return None
            last = found[0]

            async def ask(graph: Graph) -> StateSnapshot:
                snapshot = await graph.aget_state(last)
                values = _output(graph, snapshot.values) if output else snapshot.values
                return snapshot._replace(values=values)

            snapshot = await self._through_graph(thread_id, graph_id, last, ask)
            if snapshot is None:
                reading.begin_again()
                raw = await saver.aget_tuple(last)
                return None if raw is None else await raw_values(saver, raw)
        if snapshot.created_at is None:
            # The checkpoint was deleted meanwhile.
            return None
        values, interrupts = snapshot.values, snapshot.interrupts
        if not interrupts:
            return values
        waiting = [interrupt_json(interrupt) for interrupt in interrupts]
        return {**(values if isinstance(values, dict) else {}), "__interrupt__": waiting}

    async def _raw(self, found: CheckpointTuple) -> ThreadState:
        return EMPTY.model_copy(
            update={
                "values": await raw_values(lenient(self._saver), found),
                "metadata": visible_metadata(found.metadata),
                "created_at": found.checkpoint["ts"],
                **_checkpoints(found.config, found.parent_config),
            }
        )


def _before(checkpoint_id: str | None) -> RunnableConfig | None:
    return None if checkpoint_id is None else {"configurable": {"checkpoint_id": checkpoint_id}}


def config_of(thread_id: str, checkpoint: CheckpointRef | None = None) -> RunnableConfig:
    """The configuration that leads LangGraph to the checkpoint, or to the thread's latest one."""
    configurable: dict[str, Any] = {"thread_id": thread_id, "checkpoint_ns": ""}
    if checkpoint is not None:
        ns = configurable["checkpoint_ns"] = checkpoint.checkpoint_ns or ""
        by_ns = checkpoint.checkpoint_map or {}
        if by_ns and ns:
            configurable["checkpoint_map"] = by_ns
        if checkpoint_id := checkpoint.checkpoint_id or (by_ns.get(ns) if ns else None):
            configurable["checkpoint_id"] = checkpoint_id
    return {"configurable": configurable}


def _made_for(config: RunnableConfig, configurable: Mapping[str, Any] | None) -> RunnableConfig:
    return {"configurable": {**(configurable or {}), **config["configurable"]}}


def _output(graph: Graph, values: Any) -> Any:
    """The values that the graph's output schema names."""
    names = graph.output_channels
    if isinstance(names, str) or not isinstance(values, Mapping):
        return values
    return {name: values[name] for name in names if name in values}


def to_thread_state(snapshot: StateSnapshot) -> ThreadState:
    """LangGraph's snapshot in the form of the API."""
    if snapshot.created_at is None:
        return EMPTY
    return ThreadState(
        values=snapshot.values,
        next=list(snapshot.next),
        tasks=[_task(task) for task in snapshot.tasks],
        metadata=visible_metadata(snapshot.metadata),
        created_at=snapshot.created_at,
        interrupts=[interrupt_json(interrupt) for interrupt in snapshot.interrupts],
        **_checkpoints(snapshot.config, snapshot.parent_config),
    )


def interrupt_json(interrupt: Any) -> dict[str, Any]:
    if not isinstance(interrupt, Interrupt):
        # Somebody has written it to the database.
        return {"value": interrupt, "id": ""}
    return {"value": interrupt.value, "id": interrupt.id}


def interrupts_by_task(snapshot: StateSnapshot) -> dict[str, list[dict[str, Any]]]:
    """The interrupts that wait for an answer, by task id, as threads show them."""
    return {
        task.id: [interrupt_json(interrupt) for interrupt in task.interrupts]
        for task in snapshot.tasks
        if task.interrupts
    }


def run_interrupts(snapshot: StateSnapshot) -> list[dict[str, str | None]]:
    """The id and the node of each interrupt that a run has left, for the row of the run.

    An interrupt before or after a node has no id. Then the nodes are those that come next.
    """
    asked = [
        (one.id, task.name)
        for task in snapshot.tasks
        for one in task.interrupts
        if isinstance(one, Interrupt)
    ]
    found: list[tuple[str | None, str]] = [*asked] or [(None, name) for name in snapshot.next]
    return [{"id": key, "node": node} for key, node in found[:_MOST_INTERRUPTS]]


def _task(task: PregelTask) -> dict[str, Any]:
    state = task.state
    return {
        "id": task.id,
        "name": task.name,
        "path": list(task.path),
        "error": _error(task.error),
        "interrupts": [interrupt_json(interrupt) for interrupt in task.interrupts],
        "checkpoint": visible(state) if isinstance(state, Mapping) else None,
        "state": to_thread_state(state) if isinstance(state, StateSnapshot) else None,
        "result": task.result,
    }


def _error(error: Any) -> str | None:
    # An error that was read from a checkpoint is text already.
    return error if error is None or isinstance(error, str) else error_repr(error)


def _checkpoints(config: RunnableConfig | None, parent: RunnableConfig | None) -> dict[str, Any]:
    checkpoint, parent_checkpoint = visible(config), visible(parent)
    return {
        "checkpoint": checkpoint,
        "parent_checkpoint": parent_checkpoint,
        "checkpoint_id": checkpoint and checkpoint.get("checkpoint_id"),
        "parent_checkpoint_id": parent_checkpoint and parent_checkpoint.get("checkpoint_id"),
    }


def visible(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The part of a checkpoint's configuration that clients see."""
    if not config:
        return None
    configurable = config.get("configurable", {})
    return {key: configurable[key] for key in _CHECKPOINT_KEYS if key in configurable}
