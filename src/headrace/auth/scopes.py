"""Scopes: what a key or a token lets its caller do.

``write`` includes ``read``. Without ``tenant`` a caller sees only its own rows; with it, those of
all owners of its tenant.
"""

from collections.abc import Collection

READ, WRITE, TENANT = "read", "write", "tenant"

#: All scopes, in the order in which they are shown.
SCOPES = (READ, WRITE, TENANT)
#: The scopes of keys and tokens that name none.
USUAL = (READ, WRITE)


def in_order(scopes: Collection[str]) -> tuple[str, ...]:
    """The scopes once each, in the order of :data:`SCOPES`; ``write`` brings ``read``."""
    found = {*scopes, *((READ,) if WRITE in scopes else ())}
    return tuple(one for one in SCOPES if one in found)


def lets_in(scopes: Collection[str]) -> bool:
    """Whether a caller with these scopes may do anything at all."""
    return READ in scopes or WRITE in scopes
