"""Rules of runs: what may be started, on which thread, with which configuration."""

from collections.abc import Sequence
from uuid import UUID

from headrace.assistants.service import AssistantService
from headrace.auth.principal import Principal
from headrace.db.tables import RunRow
from headrace.errors import InvalidRequest, RunNotFound
from headrace.ids import uuid7
from headrace.runs.config import run_kwargs
from headrace.runs.dispatcher import Dispatcher, FollowedRun, QueuedRun, RunRequest
from headrace.runs.following import Followable, Following
from headrace.runs.repository import RunRepository
from headrace.runs.schemas import RunCreate
from headrace.threads.service import ThreadService, is_uuid


class RunService:
    def __init__(
        self,
        repository: RunRepository,
        assistants: AssistantService,
        threads: ThreadService,
        dispatcher: Dispatcher,
        following: Following,
    ) -> None:
        self._repository = repository
        self._assistants = assistants
        self._threads = threads
        self._dispatcher = dispatcher
        self._following = following

    async def start(
        self,
        principal: Principal,
        thread_id: str | None,
        body: RunCreate,
        *,
        request_id: str,
        any_thread_id: bool = False,
    ) -> FollowedRun:
        """Start a run in this process; without a thread on one of its own.

        :param any_thread_id: a thread that is to be created may have an id that is no UUID.
        :raises InvalidRequest, NotFound, ThreadBusy, Unavailable: nothing was started.
        """
        assistant = await self._assistants.get_runnable(principal, body.assistant_id)
        stateless = thread_id is None
        temporary = stateless and body.on_completion != "keep"
        create = stateless or body.if_not_exists == "create"
        if thread_id is not None and create and not any_thread_id and not is_uuid(thread_id):
            # An adopted thread may have such an id; a new one gets none through the API.
            await self._threads.get(principal, thread_id)
            create = False
        kwargs = run_kwargs(assistant, body, temporary=temporary)
        own_config = (body.config or {}).get("configurable") or {}
        request = RunRequest(
            run_id=uuid7(),
            thread_id=thread_id or str(uuid7()),
            assistant_id=assistant.assistant_id,
            graph_id=assistant.graph_id,
            principal=principal,
            multitask_strategy=body.multitask_strategy or "enqueue",
            kwargs=kwargs,
            metadata={
                **assistant.metadata_,
                **(body.metadata or {}),
                "graph_id": assistant.graph_id,
                "assistant_id": str(assistant.assistant_id),
            },
            thread_config={"configurable": own_config},
            request_id=request_id,
            create_thread=create,
            temporary_thread=temporary,
        )
        run = await self._dispatcher.start(request)
        followable = Followable(
            run_id=request.run_id,
            thread_id=request.thread_id,
            graph_id=request.graph_id,
            tenant=principal.tenant,
            resumable=bool(kwargs["resumable"]),
        )
        local = None if isinstance(run, QueuedRun) else run
        return self._following.follow(followable, created=True, local=local)

    async def follow(self, principal: Principal, thread_id: str, run_id: UUID) -> FollowedRun:
        """Follow a run wherever it is executed.

        :raises RunNotFound: there is none that the caller may see.
        """
        row = await self.get(principal, thread_id, run_id)
        return self._following.follow(
            Followable(
                run_id=row.run_id,
                thread_id=row.thread_id,
                graph_id=row.graph_id,
                tenant=row.tenant,
                resumable=bool(row.kwargs.get("resumable")),
            )
        )

    async def get(self, principal: Principal, thread_id: str, run_id: UUID) -> RunRow:
        """:raises RunNotFound: there is none that the caller may see."""
        row = await self._repository.get(principal, thread_id, run_id)
        if row is None:
            raise RunNotFound(f"Run with ID {run_id} not found")
        return row

    async def search(
        self,
        principal: Principal,
        thread_id: str,
        *,
        status: str | None,
        limit: int,
        offset: int,
    ) -> Sequence[RunRow]:
        """Runs of a thread, newest first.

        :raises ThreadNotFound: there is no such thread for the caller.
        """
        await self._threads.get(principal, thread_id)
        return await self._repository.search(
            principal, thread_id, status=status, limit=limit, offset=offset
        )


def run_id_from(value: str) -> UUID:
    """:raises InvalidRequest: not a UUID."""
    try:
        return UUID(value)
    except ValueError:
        raise InvalidRequest("Invalid run ID: must be a UUID") from None
