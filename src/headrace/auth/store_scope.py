"""Which part of the store a caller has."""

from headrace.auth.principal import DEFAULT_TENANT, Principal

_ESCAPES = (("%", "%25"), (".", "%2E"), ("/", "%2F"))


def store_scope(principal: Principal) -> str | None:
    """The label of the scope: ``tenant``, or ``tenant/owner`` if it sees its own rows only.

    None: the default tenant as a whole has the store without a scope, as it always had.
    """
    if principal.owner is None and principal.tenant == DEFAULT_TENANT:
        return None
    return scope_label(principal.tenant, principal.owner)


def scope_label(tenant: str, owner: str | None) -> str:
    """``tenant``, or ``tenant/owner``, as a label of a namespace."""
    label = _escaped(tenant)
    return label if owner is None else f"{label}/{_escaped(owner)}"


def _escaped(text: str) -> str:
    """As a part of a label, which has no periods."""
    for character, escape in _ESCAPES:
        text = text.replace(character, escape)
    return text
