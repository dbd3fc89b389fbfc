"""A run that came out of the queue, and how its row is read."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from headrace.auth.principal import Principal
from headrace.queue.rows import RunRequest, StartedRun, StopAction


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run that waited and is now this process's to execute."""

    request: RunRequest
    started: StartedRun
    #: How long it had been executed when a process was lost with it.
    lived_seconds: float | None = None


def claimed_run(
    run_id: UUID,
    thread_id: str,
    assistant_id: UUID,
    graph_id: str,
    tenant: str,
    owner: str,
    multitask_strategy: str,
    kwargs: dict[str, Any],
    metadata: dict[str, Any],
    attempt: int,
    created_at: datetime,
    cancel_action: StopAction | None,
    watched: bool,
    request_id: str | None,
    lived_seconds: float | None,
    caller: str,
) -> ClaimedRun:
    """From a row of ``claim_runs_of_locked_threads``.

    :raises TypeError: somebody else has written it, or damaged it.
    """
    if not isinstance(kwargs, dict) or not isinstance(metadata, dict):
        raise TypeError("kwargs and metadata of a run are objects")
    request = RunRequest(
        assistant_updated_at=None,
        run_id=run_id,
        thread_id=thread_id,
        assistant_id=assistant_id,
        graph_id=graph_id,
        principal=Principal(identity=owner, tenant=tenant, caller=caller),
        multitask_strategy=multitask_strategy,
        kwargs=kwargs,
        metadata=metadata,
        thread_config={},
        request_id=request_id or "",
        create_thread=False,
        temporary_thread=bool(kwargs.get("temporary")),
    )
    started = StartedRun(attempt, metadata, created_at, cancel_action, watched)
    return ClaimedRun(request, started, lived_seconds)
