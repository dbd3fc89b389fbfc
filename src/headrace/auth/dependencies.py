"""The FastAPI dependency for the caller. Only this module of the room knows HTTP."""

from typing import Annotated

from fastapi import Depends, Request

from headrace.auth.identity import principal_of
from headrace.auth.principal import Principal


async def current_principal(request: Request) -> Principal:
    """The caller, as the route has found it."""
    return principal_of(request.scope)


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]
