"""Places that requests hold while they work, so that no kind of request and no caller takes all.

Three kinds of endpoints say what they are by a decorator: ``lists`` and ``changes`` may each hold a
part of the database pool, and wait for it in a queue that callers share; what is ``lasting``
(streams, waits, joins) holds one of as many places as the process has connections, and is refused
where there is none. Runs and single rows have no gate: the rest of the pool is theirs.

A place is taken once the request is read and valid, so that a slow body holds none. Lists and
changes give it back when their handler returns, so that a slow reader holds none either: a large
history reads on behind its first piece, one statement at a time, bounded by the memory for answers.
What lasts gives its place back when its body has ended.

Where there are several callers, all requests but those of lists and changes take turns too.
"""

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, Literal

import structlog
from fastapi import Request

from headrace.edge.requests import end_turn
from headrace.edge.state import state_of
from headrace.edge.streaming import LiveResponse
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
#: Whether this request needs a place, by the arguments of its handler.
When = Callable[[Mapping[str, Any]], bool]

_log = structlog.stdlib.get_logger("headrace.places")

#: Where an endpoint says which kind it is.
_KIND = "headrace_kind"
#: How long a request waits for its turn.
_TURN_SECONDS = 15.0
#: Refusals are told this often at most for each gate.
_TELL_SECONDS = 10.0


class Lease:
    """Places that a response holds, one of each."""

    __slots__ = ("_caller", "_held")

    def __init__(self, caller: str, held: tuple[Places, ...]) -> None:
        self._caller = caller
        self._held = held

    def release(self) -> None:
        """Once; later calls do nothing."""
        held, self._held = self._held, ()
        for places in held:
            places.release(self._caller)


class Turns:
    """Requests of several callers that a process works on, each from its body to its answer.

    The event loop works on what is ready in the order in which it came. Without turns, hundreds of
    requests that one caller sends at once would all go before the next of another.
    """

    def __init__(self, gate: Gate, refused: Callable[[str, str, str], None]) -> None:
        self.gate = gate
        self._refused = refused

    async def take(self, caller: str) -> None:
        """:raises CallerShareUsed: the caller's turn did not come in time."""
        try:
            await self.gate.take(caller)
        except TimeoutError:
            self._refused("requests", "timeout", caller)
            raise CallerShareUsed(
                "Too many requests with your API key wait in this process for their turn (setting"
                " callers.requests_at_once); send fewer at once, or try again."
            ) from None

    def release(self, caller: str) -> None:
        self.gate.release(caller)


class RequestPlaces:
    """All gates of one process.

    :param share: the part that one of several callers may have of each; 1.0 where there is one.
    :param count: called with gate and reason of each refusal: ``timeout``, ``queue_full``,
        ``share``, ``full``.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        share: float = 1.0,
        count: Callable[[str, str], None] = lambda gate, reason: None,
    ) -> None:
        self._database = settings.database
        self._count = count
        self._untold: dict[str, int] = {}
        self._told_at: dict[str, float] = {}
        #: Their number is what the server has of connections; it says so when it starts.
        self.answers = Places(settings.server.max_connections, share)
        self.thread_streams = Places(settings.events.max_thread_streams, share)
        #: None where there is one caller: it would only wait for itself.
        self.turns: Turns | None = None
        if share < 1.0:
            at_once = Places(settings.callers.requests_at_once, share)
            self.turns = Turns(Gate(at_once, timeout_seconds=_TURN_SECONDS), self._refused)
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
        """Hold a place of this part of the pool within.

        :raises PoolShareFull: none became free in time, or too many wait.
        """
        gate = self._gates[name]
        try:
            await gate.take(caller)
        except TimeoutError:
            seconds = self._database.part_wait_seconds
            self._refused(name, "timeout", caller)
            raise self._pool_share_full(name, f"none became free in {seconds:g} s") from None
        except QueueFull:
            self._refused(name, "queue_full", caller)
            raise self._pool_share_full(name, "too many wait for one already") from None
        try:
            yield
        finally:
            gate.release(caller)

    def lasting(self, caller: str, *, of_thread: bool = False) -> Lease:
        """Places for an answer that lasts; the caller releases them when it has ended.

        :param of_thread: it is the stream of a whole thread, of which there are fewer.
        :raises CallerShareUsed: this caller has enough of them.
        :raises TooManyAnswers, TooManyStreams: nobody may have more.
        """
        if not self.answers.take(caller):
            raise self._lasting_refused("answers", self.answers, caller, TooManyAnswers())
        if not of_thread:
            return Lease(caller, (self.answers,))
        if not self.thread_streams.take(caller):
            self.answers.release(caller)
            raise self._lasting_refused(
                "thread_streams", self.thread_streams, caller, TooManyStreams()
            )
        return Lease(caller, (self.answers, self.thread_streams))

    def figures(self) -> dict[str, GateFigures]:
        """Of each gate, as of now."""
        found = {
            str(name): GateFigures(gate.places.taken, gate.waiting)
            for name, gate in self._gates.items()
        }
        if self.turns is not None:
            gate = self.turns.gate
            found["requests"] = GateFigures(gate.places.taken, gate.waiting)
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
            self._refused(gate, "full", caller)
            return full
        self._refused(gate, "share", caller)
        what = "streams of threads" if places is self.thread_streams else "streams, waits and joins"
        return CallerShareUsed(
            f"Your API key has {places.held_by(caller)} {what} open in this process, and"
            f" {places.free} places are left for other keys (setting callers.share); end some, or"
            " try again."
        )

    def _refused(self, gate: str, reason: str, caller: str) -> None:
        self._count(gate, reason)
        self._untold[gate] = self._untold.get(gate, 0) + 1
        now = monotonic()
        if now - self._told_at.get(gate, float("-inf")) < _TELL_SECONDS:
            return
        _log.warning(
            "place_refused",
            gate=gate,
            reason=reason,
            caller=caller or None,
            refused=self._untold.pop(gate),
        )
        self._told_at[gate] = now


def lists(endpoint: Endpoint) -> Endpoint:
    """It reads many rows: it holds a place of the pool's part for lists."""
    return _of_pool(endpoint, "lists", None)


def changes(endpoint: Endpoint) -> Endpoint:
    """It takes many statements: it holds a place of the pool's part for changes."""
    return _of_pool(endpoint, "changes", None)


def changes_when(when: When) -> Callable[[Endpoint], Endpoint]:
    """As :func:`changes`, where the request asks for that much."""
    return lambda endpoint: _of_pool(endpoint, "changes", when)


def lasting(endpoint: Endpoint) -> Endpoint:
    """It may take as long as a run: it holds a place until its body has ended."""
    return _lasting(endpoint, None)


def lasting_when(when: When) -> Callable[[Endpoint], Endpoint]:
    """As :func:`lasting`, where the request asks for that."""
    return lambda endpoint: _lasting(endpoint, when)


def lasting_of_thread(endpoint: Endpoint) -> Endpoint:
    """As :func:`lasting`, for the stream of a whole thread."""
    return _lasting(endpoint, None, of_thread=True)


def kind_of(endpoint: Callable[..., Any]) -> str:
    """``lists``, ``changes`` or ``lasting``; ``plain`` where it says nothing."""
    return str(getattr(endpoint, _KIND, "plain"))


def _of_pool(endpoint: Endpoint, name: PoolPartName, when: When | None) -> Endpoint:
    async def handle(call: Endpoint, request: Request, values: dict[str, Any]) -> Any:
        if when is not None and not when(values):
            return await call(**values)
        # It may wait here, and what it does then is bounded.
        end_turn(request)
        async with _places_of(request).of_pool(name, current_caller.get()):
            return await call(**values)

    return _wrapped(endpoint, name, handle)


def _lasting(endpoint: Endpoint, when: When | None, *, of_thread: bool = False) -> Endpoint:
    async def handle(call: Endpoint, request: Request, values: dict[str, Any]) -> Any:
        if when is not None and not when(values):
            return await call(**values)
        lease = _places_of(request).lasting(current_caller.get(), of_thread=of_thread)
        try:
            response = await call(**values)
        except BaseException:
            lease.release()
            raise
        if isinstance(response, LiveResponse):
            response.hold(lease.release)
        else:
            lease.release()
        return response

    return _wrapped(endpoint, "lasting", handle)


Handle = Callable[[Endpoint, Request, dict[str, Any]], Coroutine[Any, Any, Any]]


def _wrapped(endpoint: Endpoint, kind: str, handle: Handle) -> Endpoint:
    """An endpoint that FastAPI calls as it would call ``endpoint``, once all is valid."""
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


def _places_of(request: Request) -> RequestPlaces:
    return state_of(request).get(RequestPlaces)
