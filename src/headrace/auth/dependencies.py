"""FastAPI dependency that says who calls; the only HTTP in this room."""

from dataclasses import replace
from typing import Annotated

from fastapi import Depends

from headrace.auth.principal import ANONYMOUS, Principal
from headrace.shares import current_caller


async def current_principal() -> Principal:
    """The caller; everyone is anonymous until an identity provider is configured."""
    caller = current_caller.get()
    return replace(ANONYMOUS, caller=caller) if caller else ANONYMOUS


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]
