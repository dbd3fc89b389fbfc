"""Makes the request for a run from the caller's body and its assistant, and checks it."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any
from uuid import UUID

from headrace.auth.filters import with_filter
from headrace.auth.handler_errors import wrong_change
from headrace.auth.handlers import Handlers
from headrace.auth.principal import Principal
from headrace.auth.run_callers import stored_auth, without_forged_caller
from headrace.checkpoints.writer import Writer
from headrace.db.tables import AssistantRow, RunRow
from headrace.errors import (
    BadRequest,
    CheckpointNotFound,
    InvalidRequest,
    ResumeRefused,
    ThreadNotFound,
)
from headrace.graphs.commands import refuse_unknown_nodes
from headrace.graphs.configuration import is_callers
from headrace.graphs.context import missing_names
from headrace.graphs.registry import GraphRegistry
from headrace.graphs.resumes import NOTHING_ASKED, refuse_resume, start_of
from headrace.idempotency.schemas import RequestKey
from headrace.ids import canonical_uuid, thread_id_for
from headrace.queue.rows import CronSlot, RunRequest
from headrace.request_limits import RequestLimits
from headrace.runs.named_checkpoint import named_checkpoint
from headrace.runs.repository import RunRepository
from headrace.runs.run_kwargs import run_kwargs
from headrace.runs.schemas import RunCreate
from headrace.runs.shown_kwargs import ShownKwargs
from headrace.states.reader import StateReader
from headrace.threads.service import ThreadService
from headrace.tracing.trace_context import TraceContext
from headrace.webhooks.policy import OutboundPolicy, UrlRefused


class RunRequests:
    """Checks what callers ask.

    :param webhooks: which webhooks runs may name; None: none.
    """

    def __init__(
        self,
        repository: RunRepository,
        threads: ThreadService,
        registry: GraphRegistry,
        writer: Writer,
        states: StateReader,
        limits: RequestLimits,
        webhooks: OutboundPolicy | None,
        handlers: Handlers | None = None,
    ) -> None:
        self._repository = repository
        self._threads = threads
        self._registry = registry
        self._writer = writer
        self._states = states
        self._limits = limits
        self._webhooks = webhooks
        self._handlers = handlers or Handlers()

    async def complete(
        self,
        principal: Principal,
        thread_id: str | None,
        body: RunCreate,
        assistant: AssistantRow,
        run_id: UUID,
        *,
        request_id: str,
        trace: TraceContext | None,
        any_thread_id: bool,
        background: bool,
        key: RequestKey | None,
        headers: Mapping[str, str],
        slot: CronSlot | None = None,
    ) -> RunRequest:
        """The run with this id; see :meth:`headrace.runs.service.RunService.create`.

        :raises InvalidRequest, BadRequest, ThreadNotFound, CheckpointNotFound: it cannot be made.
        :raises ResumeRefused: it would answer what does not wait.
        """
        self._check_body(body, thread_id, background=background)
        temporary = thread_id is None and body.on_completion != "keep"
        strict_resume = self._is_strict(body)
        marks = slot.marks if slot is not None else {}
        kwargs = self._kwargs(
            principal,
            assistant,
            body,
            temporary=temporary,
            strict_resume=strict_resume,
            headers={**headers, **marks},
        )
        # LangGraph writes those of the configuration into the metadata of checkpoints, too.
        given = {
            **((body.config or {}).get("metadata") or {}),
            **(body.metadata or {}),
            **({} if slot is None else {"cron_id": marks["cron_id"]}),
        }
        metadata = {
            **assistant.metadata_,
            **(kwargs["config"].get("metadata") or {}),
            **given,
            **marks,
        }
        principal, metadata = await self._allowed(
            principal,
            {
                "thread_id": None if thread_id is None else _shown_id(thread_id),
                "assistant_id": assistant.assistant_id,
                "run_id": run_id,
                "status": "pending",
                "metadata": metadata,
                "multitask_strategy": body.multitask_strategy or "enqueue",
                "prevent_insert_if_inflight": body.multitask_strategy == "reject",
                "if_not_exists": body.if_not_exists or "reject",
                "after_seconds": body.after_seconds or 0,
                "kwargs": kwargs,
            },
        )
        checkpoint = await self._checkpoint(principal, thread_id, body)
        kwargs["config"]["configurable"].update(checkpoint)
        self._refuse_for_graph(assistant, kwargs)
        if strict_resume and thread_id is not None:
            await self._refuse_resume(principal, thread_id, body, assistant.graph_id, kwargs)
        return RunRequest(
            run_id=run_id,
            # A retry of this request must get this thread id again.
            thread_id=thread_id or str(thread_id_for(run_id)),
            assistant_id=assistant.assistant_id,
            assistant_updated_at=assistant.updated_at,
            graph_id=assistant.graph_id,
            principal=principal,
            multitask_strategy=body.multitask_strategy or "enqueue",
            kwargs=kwargs,
            metadata={
                **metadata,
                "graph_id": assistant.graph_id,
                "assistant_id": str(assistant.assistant_id),
            },
            thread_config=_thread_config(principal, body),
            request_id=request_id,
            create_thread=await self._creates(principal, thread_id, body, any_thread_id),
            temporary_thread=temporary,
            thread_metadata=_of_new_thread(metadata, given, temporary=temporary),
            keep_events=background,
            after_seconds=body.after_seconds or 0.0,
            key=key,
            slot=slot,
            trace=trace,
        )

    async def may_repeat(self, principal: Principal, run: RunRow) -> Principal:
        """The caller as it may start a run that it has started before.

        :raises RequestError: it may not any more.
        """
        value = {
            "thread_id": _shown_id(run.thread_id),
            "assistant_id": run.assistant_id,
            "run_id": run.run_id,
            "status": "pending",
            "metadata": dict(run.metadata_),
            "multitask_strategy": run.multitask_strategy,
            "prevent_insert_if_inflight": run.multitask_strategy == "reject",
            "if_not_exists": "reject",
            "after_seconds": 0,
            "kwargs": deepcopy(run.kwargs),
        }
        allowed, _ = await self._allowed(principal, value)
        return allowed

    def _check_body(self, body: RunCreate, thread_id: str | None, *, background: bool) -> None:
        """:raises InvalidRequest, BadRequest: no run can be as the body says."""
        self._limits.metadata(body.metadata)
        self._limits.deadline(body.deadline_seconds)
        self._limits.config(body.config)
        self._limits.configuration(body.context, "context")
        self._check_webhook(body.webhook)
        if body.on_disconnect == "cancel" and background:
            raise InvalidRequest(
                "on_disconnect: cancel is for runs that somebody waits for or streams; to stop this"
                " one with its reader, join its stream with cancel_on_disconnect"
            )
        if body.on_completion == "delete" and thread_id is not None:
            raise InvalidRequest(
                "on_completion: delete is for runs without a thread, which get one of their own;"
                " this run's thread stays. Leave it out, or delete the thread."
            )
        command = body.command
        if thread_id is None and command is not None and command.resume is not None:
            raise BadRequest(
                "command.resume answers what a thread waits for, and this run has no thread; send"
                " it to /threads/{thread_id}/runs"
            )

    def _kwargs(
        self,
        principal: Principal,
        assistant: AssistantRow,
        body: RunCreate,
        *,
        temporary: bool,
        strict_resume: bool,
        headers: Mapping[str, str],
    ) -> dict[str, Any]:
        """As :func:`run_kwargs`, but checked, and without what names another caller."""
        kwargs = run_kwargs(
            assistant,
            body,
            temporary=temporary,
            strict_resume=strict_resume,
            headers=headers,
        )
        kwargs["config"]["configurable"] = without_forged_caller(
            kwargs["config"]["configurable"], principal
        )
        kwargs["context"] = without_forged_caller(kwargs["context"], principal)
        if assistant.config:
            # The assistant may be older than the limits.
            self._limits.config(kwargs["config"])
        return kwargs

    async def _allowed(
        self, principal: Principal, value: dict[str, Any]
    ) -> tuple[Principal, dict[str, Any]]:
        """The caller as it may start this run, and the run's metadata as a handler has left it.

        :raises RequestError: it may not.
        """
        kwargs: dict[str, Any] = value["kwargs"]
        action = ("threads", "create_run")
        if not self._handlers.decides_on(*action):
            principal = principal.unfiltered
        else:
            shown = ShownKwargs(kwargs)
            principal = await self._handlers.authorize(
                principal, *action, value, in_place=("kwargs",), check=shown.check
            )
            if shown.bounded_have_changed:
                self._check_bounded(kwargs)
        metadata = value.get("metadata") or {}
        if (auth := stored_auth(principal)) is not None:
            kwargs["auth"] = auth
        return principal, with_filter(metadata, principal)

    def _check_bounded(self, kwargs: Mapping[str, Any]) -> None:
        """:raises HandlerFailed: the webhook or deadline that a handler has left is forbidden."""
        try:
            self._check_webhook(kwargs.get("webhook"))
            self._limits.deadline(kwargs.get("deadline_seconds"))
        except InvalidRequest as error:
            raise wrong_change("threads.create_run", "kwargs", error.message) from None

    def _check_webhook(self, url: str | None) -> None:
        """:raises InvalidRequest: no run may name this webhook."""
        if not url:
            return
        if self._webhooks is None:
            raise InvalidRequest(
                "webhook: this server sends none (http.disable_webhooks in langgraph.json); join"
                " the run, or follow the thread's stream"
            )
        try:
            self._webhooks.receiver(url)
        except UrlRefused as refusal:
            raise InvalidRequest(f"webhook: {refusal}") from None

    def _is_strict(self, body: RunCreate) -> bool:
        """Whether the run's answers to interrupts are checked."""
        if body.command is None or body.command.resume is None:
            return bool(body.strict_resume)
        if body.strict_resume is None:
            return self._limits.settings.strict_resume
        return body.strict_resume

    async def _refuse_resume(
        self,
        principal: Principal,
        thread_id: str,
        body: RunCreate,
        graph_id: str,
        kwargs: dict[str, Any],
    ) -> None:
        """Refuse answers to interrupts that do not wait, as far as that is known before the run.

        What waits at the head of the thread is not known while other runs have it or wait for it,
        or before a delay. Then the worker alone checks the answers, when the run starts.
        """
        resume = (kwargs["command"] or {}).get("resume")
        if resume is None:
            return
        configurable = kwargs["config"]["configurable"]
        start = start_of({**configurable, "thread_id": thread_id})
        if "checkpoint_id" not in start["configurable"]:
            if body.after_seconds:
                return
            try:
                if (await self._threads.get(principal, thread_id)).status == "busy":
                    return
            except ThreadNotFound:
                if body.if_not_exists != "create":
                    raise
                # It may be a thread that the caller does not see.
                raise ResumeRefused(NOTHING_ASKED) from None
        waiting = await self._states.before_run(thread_id, graph_id, start, configurable)
        if waiting is not None:
            refuse_resume(resume, waiting)

    async def _creates(
        self, principal: Principal, thread_id: str | None, body: RunCreate, any_thread_id: bool
    ) -> bool:
        """Whether the run creates the thread if there is none.

        :raises InvalidRequest: there is no such thread, and the id is no UUID. Only adopted threads
            and threads of ``/chat`` may have such ids.
        """
        if thread_id is None:
            return True
        if body.if_not_exists != "create":
            return False
        if any_thread_id or canonical_uuid(thread_id) is not None:
            return True
        await self._threads.get(principal, thread_id)
        return False

    def _refuse_for_graph(self, assistant: AssistantRow, kwargs: dict[str, Any]) -> None:
        """Refuse missing context and unknown nodes, as far as they are known before the run."""
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

    async def _checkpoint(
        self, principal: Principal, thread_id: str | None, body: RunCreate
    ) -> Mapping[str, Any]:
        """The checkpoint that the run starts from; empty: the last one when the run starts.

        It is also empty when the caller names the last checkpoint that it can have seen: chat
        clients name it with every message, even while other runs have the thread or wait for it.

        :raises InvalidRequest: as :func:`named_checkpoint`; or a run without a thread names one.
        :raises ThreadNotFound, CheckpointNotFound: there is no such thread or checkpoint.
        """
        named = named_checkpoint(body, thread_id)
        if named is None:
            return {}
        if thread_id is None:
            raise InvalidRequest(
                "checkpoint: a run without a thread has none to start from; send it to"
                " /threads/{thread_id}/runs, or leave the checkpoint out"
            )
        # The client may have seen the checkpoint before the writer committed it.
        await self._writer.settled(thread_id)
        found = await self._repository.find_checkpoints(principal, thread_id, named.ids)
        if found.missing:
            if body.if_not_exists != "create":
                await self._threads.get(principal, thread_id)
            raise CheckpointNotFound(
                f"Thread {thread_id} has no checkpoint {found.missing[0]}; its history lists"
                " those it has."
            )
        return {} if named.root is not None and found.at_head else named.configurable


def _thread_config(principal: Principal, body: RunCreate) -> dict[str, Any]:
    """What the thread shows of the configuration: the client's part, without the assistant's."""
    own = without_forged_caller((body.config or {}).get("configurable") or {}, principal)
    return {"configurable": {key: value for key, value in own.items() if is_callers(key)}}


def _shown_id(thread_id: str) -> UUID | str:
    canonical = canonical_uuid(thread_id)
    return thread_id if canonical is None else UUID(canonical)


def _of_new_thread(
    metadata: Mapping[str, Any], given: Mapping[str, Any], *, temporary: bool
) -> dict[str, Any]:
    """What the client said of the run, as a handler has left it: clients find the thread by that.

    :param temporary: nobody lists the thread, so it needs none.
    """
    return {} if temporary else {name: metadata[name] for name in given if name in metadata}
