"""What is measured and traced of a write that LangGraph's own code commits: one block, one write.

The group-commit writer has an operation for each write, which knows when it was committed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointMetadata

from headrace.checkpoints.commits import Commits
from headrace.checkpoints.run_writes import RunWrites
from headrace.checkpoints.write_size import WriteSize
from headrace.tracing.tracer import NO_WRITE_TRACE


@contextmanager
def measured_commit(
    commits: Commits | None,
    operation: str,
    run: RunWrites | None,
    config: RunnableConfig,
    size: WriteSize,
) -> Iterator[None]:
    """Measure the write that the block commits.

    :param size: counted in the block. The JSON of a checkpoint is not in it.
    """
    called_at = perf_counter()
    yield
    if commits is not None:
        commits.note(
            operation,
            called_at,
            thread_id=str(config["configurable"]["thread_id"]),
            run=run,
            size_bytes=size.total,
        )


@contextmanager
def traced_checkpoint(
    run: RunWrites | None, checkpoint_id: str, metadata: CheckpointMetadata
) -> Iterator[None]:
    """Trace a checkpoint that is committed in the block."""
    trace = NO_WRITE_TRACE
    if run is not None:
        trace = run.trace.checkpoint(checkpoint_id, metadata, None)
    try:
        yield
    except BaseException as failure:
        trace.end(failure)
        raise
    trace.end(None)
