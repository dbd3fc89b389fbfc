"""Gates: a working request holds a place. So no kind of request and no caller takes all places.

A decorator marks three kinds of endpoints:

- ``lists`` and ``changes``: each kind may hold a part of the database pool. Its requests wait for a
  place in a queue, which callers share.
- ``lasting`` (streams, waits, joins): the process has one place for each connection. If none is
  free, the request is refused.

Starts of runs and reads of single rows have no gate. They use the rest of the pool.

A request takes its place after it was read and validated, so a slow body holds none. A list or
change gives it back when its handler returns, so a slow client holds none either. A large history
goes on reading after that: one statement at a time, bounded by the memory for answers. A lasting
answer gives its place back when its body has ended.

Each request that needs a key takes a turn first (``turns.py``). A list or change ends its turn
before it waits for a place.
"""

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

from fastapi import Request

from headrace.edge.intake import Intake
from headrace.edge.requests import end_turn
from headrace.edge.state import state_of
from headrace.edge.streaming import StreamResponse
from headrace.edge.turns import Refusals, Turns
from headrace.errors import (
    CallerShareUsed,
    PoolShareFull,
    RequestError,
    TooManyAnswers,
    TooManyStreams,
)
from headrace.observability.figures import GateFigures
from headrace.settings import Settings
from headrace.shares import Gate, Places, QueueFull, current_caller

PoolPartName = Literal["lists", "changes"]
Endpoint = Callable[..., Coroutine[Any, Any, Any]]
#: Says from the arguments of the endpoint whether the request needs a place.
When = Callable[[Mapping[str, Any]], bool]

#: The attribute of an endpoint that holds its kind.
_KIND = "headrace_kind"
#: How long a request waits for its turn.
_TURN_SECONDS = 15.0


class HeldPlaces:
    """The places that a response holds: one of each kind."""

    __slots__ = ("_caller", "_held")

    def __init__(self, caller: str, held: tuple[Places, ...]) -> None:
        self._caller = caller
        self._held = held

    def release(self) -> None:
        """Give the places back. Later calls do nothing."""
        held, self._held = self._held, ()
        for places in held:
            places.release(self._caller)


class RequestGates:
    """All gates of one process.

    :param share: the part of each gate that one of several callers may have; 1.0 for one caller.
    :param count: as :class:`Refusals`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        share: float = 1.0,
        count: Callable[[str, str], None] = lambda gate, reason: None,
    ) -> None:
        self._database = settings.database
        self._refusals = Refusals(count)
        #: One for each connection. The server sets their number when it starts.
        self.answers = Places(settings.server.max_connections, share)
        self.thread_streams = Places(settings.events.max_thread_streams, share)
        at_once = Places(settings.callers.requests_at_once, share)
        among_callers = Gate(at_once, timeout_seconds=_TURN_SECONDS) if share < 1.0 else None
        self.turns = Turns(among_callers, Intake(settings.requests, share), self._refusals)
        self._gates: dict[PoolPartName, Gate] = {
            "lists": self._gate(settings.database.lists_part, share),
            "changes": self._gate(settings.database.changes_part, share),
        }

    def _gate(self, part: float, share: float) -> Gate:
        database = self._database
        return Gate(
            Places(max(1, round(part * database.pool_max)), share),
            timeout_seconds=database.part_wait_seconds,
            queue=Places(database.part_max_waiting, share),
        )

    @asynccontextmanager
    async def of_pool(self, name: PoolPartName, caller: str) -> AsyncIterator[None]:
        """Hold a place of this part of the pool while the context is open.

        :raises PoolShareFull: no place became free in time, or too many requests wait.
        """
        gate = self._gates[name]
        try:
            await gate.take(caller)
        except TimeoutError:
            seconds = self._database.part_wait_seconds
            self._refusals.note(name, "timeout", caller)
            raise self._pool_share_full(name, f"none became free within {seconds:g} s") from None
        except QueueFull:
            self._refusals.note(name, "queue_full", caller)
            raise self._pool_share_full(name, "too many requests wait for one already") from None
        try:
            yield
        finally:
            gate.release(caller)

    def lasting(self, caller: str, *, of_thread: bool = False) -> HeldPlaces:
        """Take the places of a lasting answer. Release them when the answer has ended.

        :param of_thread: for the stream of a whole thread: it takes a place of ``thread_streams``
            too, and there are fewer of these.
        :raises CallerShareUsed: this caller already uses its share.
        :raises TooManyAnswers, TooManyStreams: no place is free.
        """
        if not self.answers.take(caller):
            raise self._lasting_refused("answers", self.answers, caller, TooManyAnswers())
        if not of_thread:
            return HeldPlaces(caller, (self.answers,))
        if not self.thread_streams.take(caller):
            self.answers.release(caller)
            raise self._lasting_refused(
                "thread_streams", self.thread_streams, caller, TooManyStreams()
            )
        return HeldPlaces(caller, (self.answers, self.thread_streams))

    def figures(self) -> dict[str, GateFigures]:
        """The present figures of each gate, by name."""
        found = {
            str(name): GateFigures(gate.places.taken, gate.waiting)
            for name, gate in self._gates.items()
        }
        if (gate := self.turns.gate) is not None:
            found["requests"] = GateFigures(gate.places.taken, gate.waiting)
        found["intake"] = GateFigures(self.turns.intake.held, self.turns.intake.waiting)
        found["answers"] = GateFigures(self.answers.taken)
        found["thread_streams"] = GateFigures(self.thread_streams.taken)
        return found

    def _pool_share_full(self, name: PoolPartName, why: str) -> PoolShareFull:
        places = self._gates[name].places.total
        return PoolShareFull(
            f"{name.title()} may hold {places} of the {self._database.pool_max} database"
            f" connections of this process (setting database.{name}_part), and {why}; send fewer at"
            " once, or try again."
        )

    def _lasting_refused(
        self, gate: str, places: Places, caller: str, full: RequestError
    ) -> RequestError:
        if not places.free:
            self._refusals.note(gate, "full", caller)
            return full
        self._refusals.note(gate, "share", caller)
        what = "streams of threads" if places is self.thread_streams else "streams, waits and joins"
        return CallerShareUsed(
            f"Your API key has {places.held_by(caller)} {what} open in this process; the"
            f" {places.free} free places are for other keys (setting callers.share). End some, or"
            " try again."
        )


def lists(endpoint: Endpoint) -> Endpoint:
    """Mark an endpoint that reads many rows. It takes a place in the pool's part for lists."""
    return _of_pool(endpoint, "lists", None)


def changes(endpoint: Endpoint) -> Endpoint:
    """Mark an endpoint that needs many statements. It takes a place in the part for changes."""
    return _of_pool(endpoint, "changes", None)


def changes_when(when: When) -> Callable[[Endpoint], Endpoint]:
    """As :func:`changes`, for the requests that ``when`` selects."""
    return lambda endpoint: _of_pool(endpoint, "changes", when)


def lasting(endpoint: Endpoint) -> Endpoint:
    """Mark an endpoint that may take as long as a run. It holds a place until its answer ends."""
    return _lasting(endpoint, None)


def lasting_when(when: When) -> Callable[[Endpoint], Endpoint]:
    """As :func:`lasting`, for the requests that ``when`` selects."""
    return lambda endpoint: _lasting(endpoint, when)


def lasting_of_thread(endpoint: Endpoint) -> Endpoint:
    """As :func:`lasting`, for the stream of a whole thread."""
    return _lasting(endpoint, None, of_thread=True)


def kind_of(endpoint: Callable[..., Any]) -> str:
    """``lists``, ``changes`` or ``lasting``; ``plain`` for an endpoint without a mark."""
    return str(getattr(endpoint, _KIND, "plain"))


def _of_pool(endpoint: Endpoint, name: PoolPartName, when: When | None) -> Endpoint:
    async def handle(call: Endpoint, request: Request, values: dict[str, Any]) -> Any:
        if when is not None and not when(values):
            return await call(**values)
        # The request may wait here, and this gate bounds the work after it.
        end_turn(request)
        async with _gates_of(request).of_pool(name, current_caller.get()):
            return await call(**values)

    return _wrapped(endpoint, name, handle)


def _lasting(endpoint: Endpoint, when: When | None, *, of_thread: bool = False) -> Endpoint:
    async def handle(call: Endpoint, request: Request, values: dict[str, Any]) -> Any:
        if when is not None and not when(values):
            return await call(**values)
        held = _gates_of(request).lasting(current_caller.get(), of_thread=of_thread)
        try:
            response = await call(**values)
        except BaseException:
            held.release()
            raise
        if isinstance(response, StreamResponse):
            response.hold(held.release)
        else:
            held.release()
        return response

    return _wrapped(endpoint, "lasting", handle)


Handle = Callable[[Endpoint, Request, dict[str, Any]], Coroutine[Any, Any, Any]]


def _wrapped(endpoint: Endpoint, kind: str, handle: Handle) -> Endpoint:
    """An endpoint with the signature of ``endpoint``: FastAPI calls it after validation."""
    signature = inspect.signature(endpoint)
    takes_request = "request" in signature.parameters

    @functools.wraps(endpoint)
    async def wrapper(**values: Any) -> Any:
        request = values["request"] if takes_request else values.pop("request")
        return await handle(endpoint, request, values)

    if not takes_request:
        request = inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)
        signature = signature.replace(parameters=[*signature.parameters.values(), request])
    wrapper.__dict__["__signature__"] = signature
    wrapper.__dict__[_KIND] = kind
    return wrapper


def _gates_of(request: Request) -> RequestGates:
    return state_of(request).get(RequestGates)
