"""FastAPI dependency that says who calls; the only HTTP in this room."""

from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Request

from headrace.auth.principal import ANONYMOUS, Principal

#: Where a request's state has the name of its caller, once the key was checked.
CALLER = "headrace_caller"


async def current_principal(request: Request) -> Principal:
    """The caller; everyone is anonymous until an identity provider is configured."""
    caller = getattr(request.state, CALLER, "")
    return replace(ANONYMOUS, caller=caller) if caller else ANONYMOUS


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]
