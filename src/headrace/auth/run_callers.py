"""What a run knows of its caller: what the client cannot forge, and what is stored for the process
that executes the run later.
"""

from collections.abc import Mapping
from typing import Any

from headrace.auth.principal import Principal

#: Keys of ``configurable`` that only the server writes begin like this.
_OF_SERVER = "langgraph_auth_"
_USER = "user_id"


def without_forged_caller(given: Mapping[str, Any], principal: Principal) -> dict[str, Any]:
    """What a client sends in ``configurable`` or ``context``, with the caller as it is known.

    Without an identity, the client says who speaks.
    """
    kept = {key: value for key, value in given.items() if not key.startswith(_OF_SERVER)}
    if _USER in kept and not principal.is_anonymous:
        kept[_USER] = principal.identity
    return kept


def stored_auth(principal: Principal) -> dict[str, Any] | None:
    """What a run or a cron keeps of its caller, beside tenant and owner.

    None: there is no more to know, and it sees all owners of its tenant.
    """
    if principal.whole_tenant and principal.user is None and not principal.permissions:
        return None
    return {
        "whole_tenant": principal.whole_tenant,
        "user": None if principal.user is None else dict(principal.user),
        "permissions": list(principal.permissions),
    }


def restored(tenant: str, owner: str, caller: str, stored: Any) -> Principal:
    """The caller of a stored run or cron.

    :param stored: as :func:`stored_auth` made it.
    """
    kept = stored if isinstance(stored, Mapping) else {}
    user = kept.get("user")
    return Principal(
        identity=owner,
        tenant=tenant,
        whole_tenant=bool(kept.get("whole_tenant", True)),
        permissions=tuple(kept.get("permissions") or ()),
        user=user if isinstance(user, Mapping) else None,
        caller=caller,
    )
