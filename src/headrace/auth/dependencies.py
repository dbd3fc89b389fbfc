"""The FastAPI dependency for the caller. Only this module of the room knows HTTP."""

from dataclasses import replace
from typing import Annotated

from fastapi import Depends

from headrace.auth.principal import ANONYMOUS, Principal
from headrace.shares import current_caller


async def current_principal() -> Principal:
    """The caller. All callers are anonymous: headrace has no identity provider yet."""
    caller = current_caller.get()
    return replace(ANONYMOUS, caller=caller) if caller else ANONYMOUS


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]
