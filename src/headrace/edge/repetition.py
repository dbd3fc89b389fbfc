"""Marks endpoints that may be called twice for one request, while the database is away.

Endpoints of GET need no mark: they only read. Others may be called again if, done twice, they leave
what they leave when they are done once; or if they change something in one transaction with a
receipt, so that a failed call has changed nothing (db/receipts.py).
"""

from collections.abc import Callable, Collection
from typing import Any, TypeVar

E = TypeVar("E", bound=Callable[..., Any])

#: The attribute of a marked endpoint.
_MARK = "headrace_repeatable"


def repeatable(endpoint: E) -> E:
    """Mark an endpoint that may be called again after DatabaseUnavailable."""
    endpoint.__dict__[_MARK] = True
    return endpoint


def may_repeat(endpoint: Callable[..., Any], methods: Collection[str]) -> bool:
    """Whether a request to this endpoint may be done twice."""
    return set(methods) <= {"GET", "HEAD"} or getattr(endpoint, _MARK, False)
