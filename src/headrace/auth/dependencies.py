"""FastAPI dependency that says who calls; the only HTTP in this room."""

from typing import Annotated

from fastapi import Depends

from headrace.auth.principal import ANONYMOUS, Principal


async def current_principal() -> Principal:
    """The caller; everyone is anonymous until an identity provider is configured."""
    return ANONYMOUS


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]
