"""What a caller asks, and its assistant, become a run that only wants a thread and a place."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID, uuid5

from headrace.auth.principal import Principal
from headrace.db.tables import AssistantRow
from headrace.idempotency.schemas import RequestKey
from headrace.runs.config import run_kwargs, wanted_checkpoint
from headrace.runs.dispatcher import RunRequest
from headrace.runs.repository import RunRepository
from headrace.runs.schemas import RunCreate
from headrace.threads.service import ThreadService, is_uuid


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a caller asks; see :meth:`headrace.runs.service.RunService.start`."""

    principal: Principal
    thread_id: str | None
    body: RunCreate
    request_id: str
    any_thread_id: bool
    background: bool
    headers: Mapping[str, str]


class Requests:
    def __init__(self, repository: RunRepository, threads: ThreadService) -> None:
        self._repository = repository
        self._threads = threads

    async def complete(
        self, asked: Asked, assistant: AssistantRow, run_id: UUID, key: RequestKey | None
    ) -> RunRequest:
        """:raises InvalidRequest, BadRequest, ThreadNotFound: it cannot be."""
        body = asked.body
        temporary = asked.thread_id is None and body.on_completion != "keep"
        kwargs = run_kwargs(
            assistant,
            body,
            temporary=temporary,
            at_head=await self._at_head(asked),
            headers=asked.headers,
        )
        own_config = (body.config or {}).get("configurable") or {}
        return RunRequest(
            run_id=run_id,
            # A later try of the same request must meet the same thread.
            thread_id=asked.thread_id or str(uuid5(run_id, "thread")),
            assistant_id=assistant.assistant_id,
            assistant_updated_at=assistant.updated_at,
            graph_id=assistant.graph_id,
            principal=asked.principal,
            multitask_strategy=body.multitask_strategy or "enqueue",
            kwargs=kwargs,
            metadata={
                **assistant.metadata_,
                **(body.metadata or {}),
                "graph_id": assistant.graph_id,
                "assistant_id": str(assistant.assistant_id),
            },
            thread_config={"configurable": own_config},
            request_id=asked.request_id,
            create_thread=await self._creates(asked),
            temporary_thread=temporary,
            keep_events=asked.background,
            after_seconds=body.after_seconds or 0.0,
            key=key,
        )

    async def _creates(self, asked: Asked) -> bool:
        """Whether the thread is created if it is not there.

        :raises ThreadNotFound: it is not, and cannot be: an adopted thread may have an id that is
            no UUID, a new one gets none through the API.
        """
        if asked.thread_id is None:
            return True
        if asked.body.if_not_exists != "create":
            return False
        if asked.any_thread_id or is_uuid(asked.thread_id):
            return True
        await self._threads.get(asked.principal, asked.thread_id)
        return False

    async def _at_head(self, asked: Asked) -> bool:
        """Whether the checkpoint that the caller names is the thread's last one."""
        wanted = wanted_checkpoint(asked.body)
        if wanted is None or asked.thread_id is None:
            return False
        return wanted == await self._repository.head_checkpoint(asked.principal, asked.thread_id)
