"""Where the graph of a run starts: its checkpoint, its input, and whether they may be used."""

from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig

from headrace.checkpoints.run_saver import RunSaver
from headrace.errors import CheckpointNotFound
from headrace.graphs.registry import Graph
from headrace.graphs.resumes import refuse_resume, refuse_unknown_answers, start_of
from headrace.worker.execution import Execution
from headrace.worker.graph_config import checkpoints_in, graph_input, use_latest_checkpoint


async def input_at_start(saver: RunSaver, config: RunnableConfig, execution: Execution) -> Any:
    """The input for the graph; None if an earlier attempt of the run has left a checkpoint.

    In that case ``config`` is changed: it names the latest checkpoint of the thread.

    :raises CheckpointNotFound: the request names a checkpoint that is gone.
    """
    given = graph_input(execution.request.kwargs)
    if execution.attempt.number > 1 and await _has_checkpoint(saver, execution):
        # An earlier attempt has written the latest checkpoint: go on from there.
        use_latest_checkpoint(config)
        return None
    if named := checkpoints_in(config):
        await _require(saver, named)
    return given


async def refuse_unasked(
    graph: Graph, resume: Any, config: RunnableConfig, execution: Execution
) -> None:
    """Refuse answers to interrupts that do not wait: at the start of the run this is known.

    An earlier attempt may have used some of the answers, and have left no checkpoint of its own.

    :raises ResumeRefused: the run has changed nothing.
    """
    if resume is None:
        return
    start = start_of(config["configurable"])
    state = await graph.aget_state(start)
    if execution.attempt.number == 1:
        refuse_resume(resume, state)
    elif state.created_at is not None:
        named = start_of(start["configurable"] | state.config["configurable"])
        refuse_unknown_answers(resume, await graph.aget_state(named))


async def _has_checkpoint(saver: RunSaver, execution: Execution) -> bool:
    """Whether an earlier attempt of this run wrote the thread's latest checkpoint."""
    latest = await saver.aget_tuple(
        {"configurable": {"thread_id": execution.thread_id, "checkpoint_ns": ""}}
    )
    return latest is not None and latest.metadata.get("run_id") == str(execution.run_id)


async def _require(saver: RunSaver, checkpoints: Sequence[RunnableConfig]) -> None:
    """Refuse checkpoints that do not exist: from these, LangGraph would start empty.

    :raises CheckpointNotFound: one of them is gone.
    """
    for config in checkpoints:
        if await saver.aget_tuple(config) is None:
            where = config["configurable"]
            raise CheckpointNotFound(
                f"Thread {where['thread_id']} has no checkpoint {where['checkpoint_id']} any"
                " more; its history lists those it has."
            )
