"""A thread's values and state, read from its checkpoints through the graph that wrote them."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.types import Interrupt, PregelTask, StateSnapshot

from headrace.db.faults import DATABASE_ERRORS
from headrace.errors import HeadraceError
from headrace.graphs.registry import GraphRegistry
from headrace.threads.raw import raw_values, visible_metadata
from headrace.threads.schemas import ThreadState

_log = structlog.stdlib.get_logger("headrace.threads")

#: Keys of checkpoint configs that clients get to see.
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
    """Reads states; a thread whose graph is unknown here shows its raw channel values."""

    def __init__(self, registry: GraphRegistry, saver: BaseCheckpointSaver[Any]) -> None:
        self._registry = registry
        self._saver = saver

    async def read(
        self, thread_id: str, graph_id: str | None, *, subgraphs: bool = False
    ) -> ThreadState:
        """The latest state; :data:`EMPTY` when the thread has no checkpoint."""
        config: RunnableConfig = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
        if graph_id is None or graph_id not in self._registry.ids():
            return await self._raw(config)
        async with self._registry.for_run(graph_id, config) as graph:
            try:
                return to_thread_state(await graph.aget_state(config, subgraphs=subgraphs))
            except HeadraceError:
                raise
            except DATABASE_ERRORS:
                raise
            except Exception:
                # The graph's own reducers run here, over an input they may have failed on before.
                _log.warning(
                    "state_read_raw", thread_id=thread_id, graph_id=graph_id, exc_info=True
                )
        return await self._raw(config)

    async def values_of_run(self, thread_id: str, graph_id: str, run_id: UUID) -> Any:
        """What a run has left: the values of its last checkpoint; None when it made none."""
        config: RunnableConfig = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
        found = [
            item
            async for item in self._saver.alist(config, filter={"run_id": str(run_id)}, limit=1)
        ]
        if not found:
            return None
        if graph_id not in self._registry.ids():
            return await raw_values(self._saver, found[0])
        async with self._registry.for_run(graph_id, found[0].config) as graph:
            snapshot = await graph.aget_state(found[0].config)
        if not snapshot.interrupts:
            return snapshot.values
        waiting = [interrupt_json(interrupt) for interrupt in snapshot.interrupts]
        return {**snapshot.values, "__interrupt__": waiting}

    async def _raw(self, config: RunnableConfig) -> ThreadState:
        found = await self._saver.aget_tuple(config)
        if found is None:
            return EMPTY
        return EMPTY.model_copy(
            update={
                "values": await raw_values(self._saver, found),
                "metadata": visible_metadata(found.metadata),
                "created_at": found.checkpoint["ts"],
                **_checkpoints(found.config, found.parent_config),
            }
        )


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


def interrupt_json(interrupt: Interrupt) -> dict[str, Any]:
    return {"value": interrupt.value, "id": interrupt.id}


def interrupts_by_task(snapshot: StateSnapshot) -> dict[str, list[dict[str, Any]]]:
    """What waits for an answer, as threads carry it."""
    return {
        task.id: [interrupt_json(interrupt) for interrupt in task.interrupts]
        for task in snapshot.tasks
        if task.interrupts
    }


def _task(task: PregelTask) -> dict[str, Any]:
    state = task.state
    return {
        "id": task.id,
        "name": task.name,
        "path": list(task.path),
        "error": _error(task.error),
        "interrupts": [interrupt_json(interrupt) for interrupt in task.interrupts],
        "checkpoint": _visible(state) if isinstance(state, Mapping) else None,
        "state": to_thread_state(state) if isinstance(state, StateSnapshot) else None,
        "result": task.result,
    }


def _error(error: Any) -> str | None:
    # Read back from a checkpoint it is text already.
    return error if error is None or isinstance(error, str) else repr(error)


def _checkpoints(config: RunnableConfig | None, parent: RunnableConfig | None) -> dict[str, Any]:
    checkpoint, parent_checkpoint = _visible(config), _visible(parent)
    return {
        "checkpoint": checkpoint,
        "parent_checkpoint": parent_checkpoint,
        "checkpoint_id": checkpoint and checkpoint.get("checkpoint_id"),
        "parent_checkpoint_id": parent_checkpoint and parent_checkpoint.get("checkpoint_id"),
    }


def _visible(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not config:
        return None
    configurable = config.get("configurable", {})
    return {key: configurable[key] for key in _CHECKPOINT_KEYS if key in configurable}
