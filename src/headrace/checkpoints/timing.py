"""Times the operations of saver and store."""

from collections.abc import Callable, Coroutine
from functools import wraps
from inspect import signature
from time import perf_counter
from typing import Any, TypeVar, cast

#: Called with the operation's name and its seconds.
Observe = Callable[[str, float], None]

#: A coroutine method of an object that has ``observe``.
Method = TypeVar("Method", bound=Callable[..., Coroutine[Any, Any, Any]])


def timed(operation: str) -> Callable[[Method], Method]:
    """Report the seconds of each call to ``self.observe``, also if the call raises."""

    def decorate(method: Method) -> Method:
        @wraps(method)
        async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            started = perf_counter()
            try:
                return await method(self, *args, **kwargs)
            finally:
                self.observe(operation, perf_counter() - started)

        # LangGraph asks for this signature in every run. Compute it once.
        call.__signature__ = signature(method)  # type: ignore[attr-defined]
        return cast("Method", call)

    return decorate
