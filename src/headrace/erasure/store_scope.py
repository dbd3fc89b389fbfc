"""Which items of the store belong to an owner or to a tenant: a condition on their namespace.

A namespace is a row's ``prefix``: its labels with dots between them. Namespaces of a scope begin
with the label ``__headrace__`` and that of the scope: ``tenant``, or ``tenant/owner``. The default
tenant as a whole has the namespaces without a scope.
"""

from typing import Any

from headrace.auth.principal import DEFAULT_TENANT
from headrace.auth.store_scope import scope_label
from headrace.erasure.subject import Subject

_SCOPED = "split_part(prefix, '.', 1) = '__headrace__'"
_SCOPE = "split_part(prefix, '.', 2)"
_OF_TENANT = f"{_SCOPED} AND split_part({_SCOPE}, '/', 1) = %(tenant_label)s"
#: What all owners of the tenant share.
_SHARED = f"{_SCOPED} AND {_SCOPE} = %(tenant_label)s"
_OF_OWNER = f"{_SCOPED} AND {_SCOPE} = %(owner_label)s"
#: Whether a label, behind those of the scope, is the owner's name.
_NAMES_OWNER = (
    "position('.' || %(owner)s::text || '.' IN"
    " '.' || regexp_replace(prefix, '^__headrace__[.][^.]*[.]', '') || '.') > 0"
)


def store_condition(subject: Subject) -> tuple[str, dict[str, Any]]:
    """A condition on the column ``prefix``, and its parameters.

    Of what a tenant shares, an item belongs to an owner if one of its labels is the owner's name:
    graphs write namespaces like ``("memories", user_id)``. A label that only contains the name is
    another one's.
    """
    values = {"tenant_label": scope_label(subject.tenant, None)}
    default = subject.tenant == DEFAULT_TENANT
    if subject.owner is None:
        unscoped = f" OR NOT {_SCOPED}" if default else ""
        return f"({_OF_TENANT}){unscoped}", values
    shared = f"NOT {_SCOPED}" if default else _SHARED
    label = scope_label(subject.tenant, subject.owner)
    values |= {"owner_label": label, "owner": subject.owner}
    return f"({_OF_OWNER}) OR ({shared} AND {_NAMES_OWNER})", values
