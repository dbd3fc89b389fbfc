"""The first label of all namespaces that have a scope, and the SQL that tells them apart."""

from typing import Any

from langgraph.store.base import (
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    Op,
    PutOp,
    SearchOp,
)

#: Callers cannot use it as the first label of a namespace.
ROOT = "__headrace__"

#: SQL for the namespaces without a scope, of an entry of a statement. "/" comes right after ".".
_WITHOUT_SCOPE = "NOT ({entry}.prefix ~>=~ '" + ROOT + ".' AND {entry}.prefix ~<~ '" + ROOT + "/')"


class ScopedLabels(tuple[str, ...]):
    """The labels of a namespace in a scope, as only :mod:`scoped_store` makes them."""

    __slots__ = ()


def scope_of(namespace: tuple[str, ...]) -> str:
    """The scope that a namespace lies in; empty: it has none."""
    return namespace[1] if isinstance(namespace, ScopedLabels) else ""


def scope_of_prefix(prefix: str) -> str:
    """The scope that a namespace lies in, of its stored form; empty: it has none."""
    root, _, rest = prefix.partition(".")
    return rest.partition(".")[0] if root == ROOT else ""


def refuse_root(op: Op) -> None:
    """
    :raises InvalidNamespaceError: the operation names a namespace of a scope, and has none.
    """
    labels: Any = ()
    if isinstance(op, GetOp | PutOp):
        labels = op.namespace
    elif isinstance(op, SearchOp):
        labels = op.namespace_prefix
    elif isinstance(op, ListNamespacesOp):
        # It would find nothing. But LangGraph makes equal operations of one batch one, and so it
        # would get what the scope of this name gets.
        labels = _listed_prefix(op)
    if labels and labels[0] == ROOT and not isinstance(labels, ScopedLabels):
        raise InvalidNamespaceError(
            f"Root label for namespace cannot be '{ROOT}': headrace reserves it."
        )


def _listed_prefix(op: ListNamespacesOp) -> Any:
    """The first prefix that is the scope's, or that names one; empty: there is none."""
    prefixes = (one.path for one in op.match_conditions or () if one.match_type == "prefix")
    return next((path for path in prefixes if path and path[0] == ROOT), ())


def without_scope(entry: str) -> str:
    """The condition on an entry of a statement: its namespace has no scope."""
    return _WITHOUT_SCOPE.format(entry=entry)


def listed(op: ListNamespacesOp) -> tuple[str, list[Any], ListNamespacesOp]:
    """The rows whose namespaces are listed, as SQL without the labels of the scope; the values of
    that SQL; and the operation with the conditions on the other labels.
    """
    conditions = tuple(op.match_conditions or ())
    own = conditions[0].path if conditions else ()
    if not isinstance(own, ScopedLabels):
        rows = f"SELECT prefix, expires_at FROM store WHERE {without_scope('store')}"  # noqa: S608 - of constants
        return rows, [], op
    name = ".".join(own)
    rows = (
        "SELECT substr(prefix, %s::int) AS prefix, expires_at FROM store"
        " WHERE prefix ~>=~ %s AND prefix ~<~ %s"
    )
    values = [len(name) + 2, f"{name}.", f"{name}/"]
    return rows, values, op._replace(match_conditions=conditions[1:] or None)
