"""The thread that a path names."""

from typing import Annotated

from fastapi import Depends, Request

from headrace.auth.dependencies import CurrentPrincipal
from headrace.edge.state import state_of
from headrace.threads.schemas import AnyThreadId
from headrace.threads.service import ThreadService


async def _stored_id(thread_id: AnyThreadId, principal: CurrentPrincipal, request: Request) -> str:
    return await state_of(request).get(ThreadService).stored_id(principal, thread_id)


#: One UUID is one thread, in whichever spelling.
PathThreadId = Annotated[str, Depends(_stored_id)]
