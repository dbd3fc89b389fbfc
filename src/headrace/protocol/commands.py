"""The commands of the streaming protocol v3: start a run, answer what it asks, see its tree.

A refusal is an answer too: it names a code of the protocol, and says what to change.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError

from headrace.auth.handler_errors import RefusedByHandler
from headrace.auth.handlers import Handlers
from headrace.auth.principal import Principal
from headrace.db.tables import RunRow
from headrace.error_text import clipped
from headrace.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    ThreadNotFound,
)
from headrace.events.log import EventLog
from headrace.events.protocol_events import PREFIX
from headrace.following.thread_watcher import ThreadWatcher
from headrace.idempotency.schemas import RequestKey
from headrace.protocol.agent_tree import tree_of
from headrace.protocol.command_forms import Command, CommandRefused, code_of, refusal, success
from headrace.protocol.subscription import namespace_of
from headrace.runs.schemas import RunCreate, ThreadRunCreate
from headrace.runs.service import RunService
from headrace.threads.rows import StoredThread
from headrace.threads.service import ThreadService
from headrace.tracing.tracer import RequestTrace

#: Commands that exist in the protocol, and what to use here.
_ELSEWHERE = {
    "subscription.subscribe": "over HTTP, send the subscription to"
    " /threads/{thread_id}/stream/events",
    "subscription.unsubscribe": "over HTTP, close the connection of the stream",
    "subscription.reconnect": "over HTTP, send the last seq as since to"
    " /threads/{thread_id}/stream/events",
    "input.inject": "start a run with the message as its input; multitask_strategy says what"
    " happens to the run that goes on",
    "state.get": "read GET /threads/{thread_id}/state",
    "state.listCheckpoints": "read GET /threads/{thread_id}/history",
    "state.fork": "start a run with config.configurable.checkpoint_id",
}
#: Parameters of a run that the protocol decides.
_DECIDED = ("command", "stream_mode", "stream_resumable", "stream_subgraphs")
#: Parameters of an answer that are none of the run that goes on with it.
_OF_ANSWERS = ("interrupt_id", "response", "responses", "namespace", "update", "goto")
#: Parameters of a run that begins, not of one that goes on from an interrupt.
_OF_BEGINNINGS = ("input", "checkpoint", "checkpoint_id", "if_not_exists")

_MAX_ERRORS = 5
_MAX_ERROR_BYTES = 500
#: Parts of one answer to several interrupts.
_MAX_RESPONSES = 1000

#: Refusals that are answers of the protocol. Others ask the caller to try again.
_REFUSALS = (
    BadRequest,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    RefusedByHandler,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRequest:
    """What a run needs to know of the request that starts it."""

    request_id: str
    trace: RequestTrace
    key: RequestKey | None
    headers: Mapping[str, str]


class ThreadCommands:
    """Carries commands out; one per process."""

    def __init__(
        self,
        runs: RunService,
        threads: ThreadService,
        watcher: ThreadWatcher,
        log: EventLog,
        handlers: Handlers | None = None,
    ) -> None:
        self._handlers = handlers or Handlers()
        self._runs = runs
        self._threads = threads
        self._watcher = watcher
        self._log = log
        self._methods: dict[
            str,
            Callable[
                [Principal, str, Mapping[str, Any], CommandRequest], Awaitable[dict[str, Any]]
            ],
        ] = {
            "run.start": self._start,
            "input.respond": self._respond,
            "agent.getTree": self._tree,
        }

    async def carry_out(
        self, principal: Principal, thread_id: str, command: Command, request: CommandRequest
    ) -> dict[str, Any]:
        """The answer to a command.

        :raises TooManyRequests, Unavailable: try again later.
        """
        try:
            method = self._methods.get(command.method)
            if method is None:
                raise _unknown(command.method)
            result = await method(principal, thread_id, command.params, request)
        except CommandRefused as refused:
            return refusal(refused, command.command_id)
        except _REFUSALS as error:
            return refusal(CommandRefused(code_of(error), error.message), command.command_id)
        return success(command, result)

    async def _start(
        self,
        principal: Principal,
        thread_id: str,
        params: Mapping[str, Any],
        request: CommandRequest,
    ) -> dict[str, Any]:
        if not isinstance(params.get("assistant_id"), str) or not params["assistant_id"]:
            raise CommandRefused(
                "invalid_argument",
                "run.start requires an assistant_id: send the id of an assistant, or the name of a"
                " graph.",
            )
        _refuse(
            params,
            _DECIDED,
            "the protocol decides this; leave it out. To answer an interrupt, send input.respond.",
        )
        _refuse(params, _OF_ANSWERS, "this is of input.respond; send that, or leave it out.")
        given = _of_run(params)
        body = _run(given)
        if await self._resumes(principal, thread_id, body):
            body = _run({**given, "input": None, "command": {"resume": body.input}})
        return await self._create(principal, thread_id, body, request)

    async def _resumes(self, principal: Principal, thread_id: str, body: RunCreate) -> bool:
        """Whether the input answers what the thread waits for."""
        configurable = (body.config or {}).get("configurable") or {}
        named = body.checkpoint or body.checkpoint_id or configurable.get("checkpoint_id")
        if body.input is None or named:
            return False
        try:
            thread = await self._threads.get(
                await self._handlers.reader(principal, thread_id), thread_id
            )
        except (ThreadNotFound, InvalidRequest, Forbidden, RefusedByHandler):
            # The run makes the thread, or tells why it cannot.
            return False
        return thread.status == "interrupted" and bool(_waiting(thread))

    async def _respond(
        self,
        principal: Principal,
        thread_id: str,
        params: Mapping[str, Any],
        request: CommandRequest,
    ) -> dict[str, Any]:
        _refuse(params, _DECIDED, "the protocol decides this; leave it out.")
        _refuse(
            params,
            _OF_BEGINNINGS,
            "an answer goes on with the thread as it is; leave it out, or send run.start.",
        )
        answers = _answers(params)
        reader = await self._handlers.reader(principal, thread_id)
        try:
            thread = await self._threads.get(reader, thread_id)
        except (ThreadNotFound, InvalidRequest):
            thread = None
        waiting = _waiting(thread) if thread is not None else ()
        if unknown := [one for one in answers if one not in waiting]:
            raise CommandRefused(
                "no_such_interrupt",
                f"Unknown or already-consumed interrupt: {clipped(unknown[0], 100)}."
                f" {_told(waiting)}",
            )
        assert thread is not None
        command = {"resume": answers, "update": params.get("update"), "goto": params.get("goto")}
        given = {name: one for name, one in _of_run(params).items() if one is not None}
        body = _run(
            {
                "assistant_id": str(thread.metadata.get("assistant_id") or ""),
                "strict_resume": True,
                **given,
                "command": {name: one for name, one in command.items() if one is not None},
            }
        )
        return await self._create(principal, thread_id, body, request)

    async def _create(
        self, principal: Principal, thread_id: str, body: RunCreate, request: CommandRequest
    ) -> dict[str, Any]:
        run = await self._runs.create(
            principal,
            thread_id,
            body,
            request_id=request.request_id,
            trace=request.trace,
            background=True,
            key=request.key,
            headers=request.headers,
        )
        # A stream that waited for the thread finds the run at once, not within a second.
        self._watcher.look()
        return {"run_id": str(run.run_id)}

    async def _tree(
        self,
        principal: Principal,
        thread_id: str,
        params: Mapping[str, Any],
        request: CommandRequest,
    ) -> dict[str, Any]:
        wanted = params.get("run_id")
        run = await self._running(principal, thread_id)
        if run is None or (wanted is not None and str(run.run_id) != str(wanted)):
            raise CommandRefused("no_such_run", "No active run is bound to this thread.")
        told = await self._log.named(run.run_id, f"{PREFIX}lifecycle|")
        root: dict[str, Any] = {
            "namespace": [],
            "status": "running",
            "graph_name": run.graph_id,
            "children": [],
        }
        return {"tree": tree_of(root, [orjson.loads(event.data) for event in told])}

    async def _running(self, principal: Principal, thread_id: str) -> RunRow | None:
        """The run that goes on."""
        reader = await self._handlers.reader(principal, thread_id)
        with self._runs.reading() as reading:
            try:
                page = await self._runs.search(
                    reader,
                    thread_id,
                    status="running",
                    limit=1,
                    offset=0,
                    reading=reading,
                    without=("kwargs", "metadata"),
                )
            except (ThreadNotFound, InvalidRequest):
                return None
            return page.rows[0] if page.rows else None


def _unknown(method: str) -> CommandRefused:
    if method in _ELSEWHERE:
        return CommandRefused(
            "not_supported", f"{method} is not in headrace: {_ELSEWHERE[method]}."
        )
    known = "run.start, input.respond and agent.getTree"
    return CommandRefused(
        "unknown_command", f"Unknown protocol command: {clipped(method, 100)}. There are {known}."
    )


def _refuse(params: Mapping[str, Any], names: Iterable[str], why: str) -> None:
    """:raises CommandRefused: one of the names is a parameter."""
    if refused := [name for name in names if params.get(name) is not None]:
        raise CommandRefused("invalid_argument", f"{refused[0]}: {why}")


def _of_run(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the run that a command starts."""
    names = ("multitaskStrategy", *_OF_ANSWERS)
    given = {name: value for name, value in params.items() if name not in names}
    if params.get("multitaskStrategy") is not None:
        # Older servers know only this name of it, so clients send both.
        given.setdefault("multitask_strategy", params["multitaskStrategy"])
    return given


def _run(given: Mapping[str, Any]) -> ThreadRunCreate:
    """:raises CommandRefused: the parameters are wrong."""
    whole = {
        "if_not_exists": "create",
        **given,
        "stream_resumable": True,
        "stream_subgraphs": True,
    }
    try:
        return ThreadRunCreate.model_validate(whole)
    except ValidationError as error:
        lines = [
            clipped(f"{'.'.join(map(str, one['loc']))}: {one['msg']}", _MAX_ERROR_BYTES)
            for one in error.errors(include_input=False, include_url=False)[:_MAX_ERRORS]
        ]
        raise CommandRefused("invalid_argument", "; ".join(lines)) from None


def _waiting(thread: StoredThread) -> list[str]:
    """The ids of the interrupts that the thread waits for."""
    return [
        str(one.get("id")) for some in (thread.interrupts or {}).values() for one in some if one
    ]


def _told(waiting: list[str] | tuple[()]) -> str:
    if not waiting:
        return "No interrupt waits on this thread."
    return f"Waiting: {', '.join(waiting[:20])}."


def _answers(params: Mapping[str, Any]) -> dict[str, Any]:
    """Answers by interrupt.

    :raises CommandRefused: the parameters are wrong.
    """
    several = params.get("responses")
    if several is None:
        several = [params]
    else:
        _refuse(params, ("interrupt_id", "response"), "send either this or responses.")
    if not isinstance(several, list) or not 0 < len(several) <= _MAX_RESPONSES:
        raise CommandRefused(
            "invalid_argument", f"responses: send an array of 1 to {_MAX_RESPONSES} answers."
        )
    answers: dict[str, Any] = {}
    for one in several:
        interrupt_id = one.get("interrupt_id") if isinstance(one, Mapping) else None
        if not isinstance(interrupt_id, str) or not interrupt_id or "response" not in one:
            raise CommandRefused(
                "invalid_argument",
                "input.respond requires the interrupt_id of an input.requested event, and a"
                " response.",
            )
        if one.get("namespace") is not None:
            # The id alone says which interrupt it is.
            namespace_of(one["namespace"], "namespace")
        if interrupt_id in answers:
            raise CommandRefused(
                "invalid_argument",
                f"responses: {clipped(interrupt_id, 100)} is answered twice; send one answer.",
            )
        answers[interrupt_id] = one["response"]
    return answers
