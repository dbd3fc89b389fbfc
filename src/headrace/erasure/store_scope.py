"""Which items of the store belong to an owner or to a tenant: a condition on their namespace.

A namespace is a row's ``prefix``: its labels with dots between them. Namespaces of a scope begin
with the label ``__headrace__`` and that of the scope: ``tenant``, or ``tenant/owner``. The default
tenant as a whole has the namespaces without a scope.
"""

from typing import Any

from headrace.auth.principal import DEFAULT_TENANT
from headrace.auth.store_scope import scope_label
from headrace.erasure.subject import ANY, USER, Subject
from headrace.graphs.user_label import user_label

_SCOPED = "split_part(prefix, '.', 1) = '__headrace__'"
_SCOPE = "split_part(prefix, '.', 2)"
_OF_TENANT = f"{_SCOPED} AND split_part({_SCOPE}, '/', 1) = %(tenant_label)s"
#: What all owners of the tenant share.
_SHARED = f"{_SCOPED} AND {_SCOPE} = %(tenant_label)s"
_OF_OWNER = f"{_SCOPED} AND {_SCOPE} = %(owner_label)s"
#: The labels behind those of the scope.
LABELS = "regexp_replace(prefix, '^__headrace__[.][^.]*[.]', '')"
#: Whether any of these labels is the owner's.
_NAMES_OWNER = f"position('.' || %(user_label)s::text || '.' IN '.' || {LABELS} || '.') > 0"

Condition = tuple[str, dict[str, Any]]


def store_condition(subject: Subject) -> Condition:
    """A condition on the column ``prefix``, and its parameters: what is erased."""
    if subject.owner is None:
        unscoped = f" OR NOT {_SCOPED}" if subject.tenant == DEFAULT_TENANT else ""
        return f"({_OF_TENANT}){unscoped}", {"tenant_label": scope_label(subject.tenant, None)}
    shared, values = shared_condition(subject)
    values["owner_label"] = scope_label(subject.tenant, subject.owner)
    return f"({_OF_OWNER}) OR ({shared})", values


def shared_condition(subject: Subject) -> Condition:
    """The items of an owner among those that the tenant shares.

    Their namespaces begin with the labels of a pattern.
    """
    values = {
        "tenant_label": scope_label(subject.tenant, None),
        "user_label": user_label(subject.owner),
    }
    patterns = []
    for number, pattern in enumerate(subject.namespaces):
        labels = []
        for place, label in enumerate(pattern, 1):
            found = f"split_part({LABELS}, '.', {place})"
            if label == ANY:
                labels.append(f"{found} <> ''")
            elif label == USER:
                labels.append(f"{found} = %(user_label)s")
            else:
                values[f"label_{number}_{place}"] = label
                labels.append(f"{found} = %(label_{number}_{place})s")
        patterns.append(" AND ".join(labels))
    return f"{_shared(subject)} AND (({') OR ('.join(patterns)}))", values


def doubtful_condition(subject: Subject) -> Condition:
    """Shared items with the owner's label at a place that no pattern names. They stay."""
    shared, values = shared_condition(subject)
    return f"{_shared(subject)} AND {_NAMES_OWNER} AND NOT ({shared})", values


def _shared(subject: Subject) -> str:
    return f"NOT {_SCOPED}" if subject.tenant == DEFAULT_TENANT else _SHARED
