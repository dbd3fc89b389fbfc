"""What a caller may do, by the ``auth.on`` handlers of ``langgraph.json``.

An endpoint names its resource and its action. For an action on one row, a type of its parameter
``principal`` does it::

    async def get_run(run_id: PathRunId, principal: ThreadReader) -> Response:

Where a handler sees the body, and may change it, the endpoint asks::

    principal, body = await access.to_send("threads", "create", body, ("metadata",))
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Request

from headrace.auth.dependencies import CurrentPrincipal
from headrace.auth.handler_changes import METADATA, Body
from headrace.auth.handlers import Handlers
from headrace.auth.principal import Principal
from headrace.edge.state import state_of
from headrace.ids import canonical_uuid, system_assistant_id

#: A count has no page. Handlers for searches may bound one all the same.
PAGE = ("limit", "offset")

#: The parameters of a path that handlers see.
_IDS = ("thread_id", "run_id", "assistant_id", "cron_id")


class Access:
    """The caller of a request, and the handlers that say what it may do."""

    __slots__ = ("_handlers", "_ids", "principal")

    def __init__(self, principal: Principal, handlers: Handlers, ids: Mapping[str, Any]) -> None:
        self.principal = principal
        self._handlers = handlers
        self._ids = ids

    async def to(self, resource: str, action: str, /, **value: Any) -> Principal:
        """The caller as it may do this, with the ids of the path. A handler may change nothing.

        :raises RequestError: it may not.
        """
        return await self._handlers.authorize(
            self.principal, resource, action, {**self._ids, **value}
        )

    async def to_each(
        self, resource: str, action: str, thread_ids: Sequence[str]
    ) -> list[tuple[Principal, list[str]]]:
        """As :meth:`to` for each of these threads, those with one filter together.

        :raises RequestError: it may not, for one of them.
        """
        found: list[tuple[Principal, list[str]]] = []
        for thread_id in thread_ids:
            principal = await self.to(
                resource, action, thread_id=id_for_handlers("thread_id", thread_id)
            )
            together = next((ids for one, ids in found if one == principal), None)
            if together is None:
                found.append((principal, [thread_id]))
            else:
                together.append(thread_id)
        return found or [(self.principal, [])]

    async def to_send(
        self,
        resource: str,
        action: str,
        body: Body,
        names: Sequence[str] | Mapping[str, str],
        /,
        *,
        unheeded: Collection[str] = (),
        **value: Any,
    ) -> tuple[Principal, Body]:
        """The caller as it may do this, and the body as the handler has left it.

        A handler sees the fields ``names`` of the body, and its metadata as a dict; it may change
        these. A dict in ``value`` it may change in place. A new row gets what the handler's filter
        wants, so that its caller sees it.

        :param names: of fields, or the fields by the names that handlers know.
        :param unheeded: parts of ``value`` that a handler may change without effect.
        :raises RequestError: it may not.
        """
        fields = dict(names) if isinstance(names, Mapping) else {name: name for name in names}
        if METADATA in type(body).model_fields:
            fields[METADATA] = METADATA
        return await self._handlers.authorize_body(
            self.principal,
            resource,
            action,
            body,
            fields,
            {**self._ids, **value},
            unheeded=unheeded,
        )


async def _access(request: Request, principal: CurrentPrincipal) -> Access:
    ids = {
        name: id_for_handlers(name, given)
        for name, given in request.path_params.items()
        if name in _IDS
    }
    return Access(principal, state_of(request).get(Handlers), ids)


def id_for_handlers(name: str, given: str) -> UUID | str:
    """As handlers see it: a UUID. The name of a graph stands for its assistant."""
    canonical = canonical_uuid(given)
    if canonical is not None:
        return UUID(canonical)
    return system_assistant_id(given) if name == "assistant_id" else given


CurrentAccess = Annotated[Access, Depends(_access)]


def _may(resource: str, action: str) -> Any:
    async def admitted(access: CurrentAccess) -> Principal:
        return await access.to(resource, action)

    return Depends(admitted)


ThreadReader = Annotated[Principal, _may("threads", "read")]
ThreadChanger = Annotated[Principal, _may("threads", "update")]
ThreadDeleter = Annotated[Principal, _may("threads", "delete")]
AssistantReader = Annotated[Principal, _may("assistants", "read")]
AssistantDeleter = Annotated[Principal, _may("assistants", "delete")]
CronReader = Annotated[Principal, _may("crons", "read")]
CronDeleter = Annotated[Principal, _may("crons", "delete")]
