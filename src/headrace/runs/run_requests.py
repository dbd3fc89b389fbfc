"""What a caller asks, and its assistant, become a run that only wants a thread and a place."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from headrace.auth.principal import Principal
from headrace.checkpoints.writer import Writer
from headrace.db.tables import AssistantRow
from headrace.errors import BadRequest, CheckpointNotFound, InvalidRequest
from headrace.graphs.commands import refuse_unknown_nodes
from headrace.graphs.context import missing_names
from headrace.graphs.registry import GraphRegistry
from headrace.idempotency.schemas import RequestKey
from headrace.queue.rows import RunRequest
from headrace.request_limits import RequestLimits
from headrace.runs.named_checkpoint import named_checkpoint
from headrace.runs.repository import RunRepository
from headrace.runs.run_kwargs import run_kwargs
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


class RunRequests:
    def __init__(
        self,
        repository: RunRepository,
        threads: ThreadService,
        registry: GraphRegistry,
        writer: Writer,
        limits: RequestLimits,
    ) -> None:
        self._repository = repository
        self._threads = threads
        self._registry = registry
        self._writer = writer
        self._limits = limits

    async def complete(
        self, asked: Asked, assistant: AssistantRow, run_id: UUID, key: RequestKey | None
    ) -> RunRequest:
        """:raises InvalidRequest, BadRequest, ThreadNotFound, CheckpointNotFound: it cannot be."""
        body = asked.body
        self._limits.metadata(body.metadata)
        self._limits.config(body.config)
        self._limits.configuration(body.context, "context")
        if body.on_disconnect == "cancel" and asked.background:
            raise InvalidRequest(
                "on_disconnect: cancel is for runs that somebody waits for or streams; to stop this"
                " one with its reader, join its stream with cancel_on_disconnect"
            )
        if body.on_completion == "delete" and asked.thread_id is not None:
            raise InvalidRequest(
                "on_completion: delete is for runs without a thread, which get one of their own;"
                " this run's thread stays. Leave it out, or delete the thread."
            )
        command = body.command
        if asked.thread_id is None and command is not None and command.resume is not None:
            raise BadRequest(
                "command.resume answers what a thread waits for, and this run has no thread; send"
                " it to /threads/{thread_id}/runs"
            )
        temporary = asked.thread_id is None and body.on_completion != "keep"
        kwargs = run_kwargs(
            assistant,
            body,
            temporary=temporary,
            checkpoint=await self._checkpoint(asked),
            headers=asked.headers,
        )
        if assistant.config:
            # Of an assistant from before there were limits.
            self._limits.config(kwargs["config"])
        self._refuse_for_graph(assistant, kwargs)
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
                # Its checkpoints say the same.
                **(kwargs["config"].get("metadata") or {}),
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

    def _refuse_for_graph(self, assistant: AssistantRow, kwargs: dict[str, Any]) -> None:
        """What the graph cannot be run with, as far as that is known before it runs."""
        graph_id = assistant.graph_id
        missing = missing_names(self._registry.context_schema(graph_id), kwargs["context"])
        if missing:
            raise InvalidRequest(
                f"context: graph '{graph_id}' needs {', '.join(missing)}; send that with the run,"
                " or give it to the assistant"
            )
        nodes = self._registry.nodes(graph_id)
        if nodes is not None:
            refuse_unknown_nodes(nodes, kwargs)

    async def _checkpoint(self, asked: Asked) -> Mapping[str, Any]:
        """Where the run is to start from; empty for where its thread stands when its turn comes.

        That is meant too by who names the thread's last checkpoint, as clients do with every
        message: the last one they can have seen, while other runs have the thread or wait for it.

        :raises ThreadNotFound, CheckpointNotFound: there is no such thing.
        """
        named = named_checkpoint(asked.body, asked.thread_id)
        if named is None:
            return {}
        if asked.thread_id is None:
            raise InvalidRequest(
                "checkpoint: a run without a thread has none to start from; send it to"
                " /threads/{thread_id}/runs, or leave the checkpoint out"
            )
        # What a client has been told of may be on its way into the database.
        await self._writer.settled(asked.thread_id)
        found = await self._repository.find_checkpoints(asked.principal, asked.thread_id, named.ids)
        if found.missing:
            if asked.body.if_not_exists != "create":
                await self._threads.get(asked.principal, asked.thread_id)
            raise CheckpointNotFound(
                f"Thread {asked.thread_id} has no checkpoint {found.missing[0]}; its history lists"
                " those it has."
            )
        return {} if named.root is not None and found.at_head else named.configurable
