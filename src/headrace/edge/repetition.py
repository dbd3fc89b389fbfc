"""Marks endpoints that may be called twice for one request, while the database is away.

Endpoints of GET need no mark: they only read.
"""

from collections.abc import Callable, Collection
from typing import Any, TypeVar

E = TypeVar("E", bound=Callable[..., Any])

#: The attribute of a marked endpoint.
_MARK = "headrace_repeatable"


def repeatable(endpoint: E) -> E:
    """Mark an endpoint: done twice, it leaves what it leaves when it is done once."""
    endpoint.__dict__[_MARK] = True
    return endpoint


def may_repeat(endpoint: Callable[..., Any], methods: Collection[str]) -> bool:
    """Whether a request to this endpoint may be done twice."""
    return set(methods) <= {"GET", "HEAD"} or getattr(endpoint, _MARK, False)
