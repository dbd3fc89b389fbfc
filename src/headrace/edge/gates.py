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

from headrace.admission_errors import RateLimited
from headrace.edge.intake import Intake
from headrace.edge.rates import Rates
from headrace.edge.requests import end_turn
from headrace.edge.state import state_of
from headrace.edge.streaming import StreamResponse
from headrace.edge.turns import Refusals, Turns
from headrace.errors import CallerShareUsed, InvalidRequest, RequestError
from headrace.observability.figures import GateFigures
from headrace.settings import Settings
from headrace.shares import Gate, Places, QueueFull, Share, current_caller
from headrace.unavailable_errors import (
    PoolShareFull,
    TooManyAnswers,
    TooManyAppRequests,
    TooManySockets,
    TooManyStreams,
)

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
        share: Share | float = 1.0,
        count: Callable[[str, str], None] = lambda gate, reason: None,
    ) -> None:
        self._database = settings.database
        self._max_page_rows = settings.requests.max_page_rows
        self._refusals = Refusals(count)
        #: One for each connection. The server sets their number when it starts.
        callers = settings.callers
        self.rates = Rates(callers.requests_per_second, callers.burst_seconds)
        #: Messages on WebSockets of the user's app are counted apart from requests.
        self.message_rates = Rates(callers.requests_per_second, callers.burst_seconds)
        self.answers = Places(settings.server.max_connections, share, most=callers.max_open_answers)
        self.thread_streams = Places(
            settings.events.max_thread_streams, share, most=callers.max_thread_streams
        )
        #: Their callers may be anybody, so one never takes all places.
        self.app_sockets = Places(
            settings.server.max_app_sockets, callers.share, most=callers.max_thread_streams
        )
        self.app_requests = Places(max(1, settings.server.max_connections // 4), callers.share)
        at_once = Places(callers.requests_at_once, share)
        among_callers = Gate(at_once, timeout_seconds=_TURN_SECONDS)
        self.turns = Turns(among_callers, Intake(settings.requests, share), self._refusals)
        self._gates: dict[PoolPartName, Gate] = {
            "lists": self._gate(settings.database.lists_part, share),
            "changes": self._gate(settings.database.changes_part, share),
        }

    def _gate(self, part: float, share: Share | float) -> Gate:
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

    def admit(self, caller: str) -> None:
        """Count a request of this caller.

        :raises RateLimited: it has sent too many.
        """
        try:
            self.rates.admit(caller)
        except RateLimited:
            self._refusals.note("rate", "share", caller)
            raise

    def check_page(self, values: Mapping[str, Any]) -> None:
        """
        :param values: the arguments of an endpoint that lists rows.
        :raises InvalidRequest: it asks for too many.
        """
        for name, value in values.items():
            limit = value if name == "limit" else getattr(value, "limit", None)
            if isinstance(limit, int) and limit > self._max_page_rows:
                raise InvalidRequest(
                    f"limit: a page has at most {self._max_page_rows} rows (setting"
                    " requests.max_page_rows)."
                )

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

    def socket_of_app(self, caller: str) -> HeldPlaces:
        """Take the place of a WebSocket of the user's app. Release it when the socket has ended.

        :raises CallerShareUsed, TooManySockets: as :meth:`lasting`.
        """
        if not self.app_sockets.take(caller):
            raise self._of_app_refused("app_sockets", self.app_sockets, caller, TooManySockets())
        return HeldPlaces(caller, (self.app_sockets,))

    def request_of_app(self, caller: str) -> HeldPlaces:
        """Take the place of a request to the user's app. Release it when its answer has ended.

        :raises CallerShareUsed, TooManyAppRequests: as :meth:`lasting`.
        """
        if not self.app_requests.take(caller):
            full = TooManyAppRequests()
            raise self._of_app_refused("app_requests", self.app_requests, caller, full)
        return HeldPlaces(caller, (self.app_requests,))

    def note_slowed(self, caller: str) -> None:
        """The messages of a WebSocket of this caller wait: it sends too many."""
        self._refusals.note("socket_rate", "share", caller)

    def figures(self) -> dict[str, GateFigures]:
        """The present figures of each gate, by name."""
        found = {
            str(name): GateFigures(gate.places.taken, gate.waiting)
            for name, gate in self._gates.items()
        }
        requests = self.turns.gate
        found["requests"] = GateFigures(requests.places.taken, requests.waiting)
        found["intake"] = GateFigures(self.turns.intake.held, self.turns.intake.waiting)
        found["answers"] = GateFigures(self.answers.taken)
        found["thread_streams"] = GateFigures(self.thread_streams.taken)
        found["app_sockets"] = GateFigures(self.app_sockets.taken)
        found["app_requests"] = GateFigures(self.app_requests.taken)
        return found

    def _pool_share_full(self, name: PoolPartName, why: str) -> PoolShareFull:
        places = self._gates[name].places.total
        return PoolShareFull(
            f"{name.title()} may hold {places} of the {self._database.pool_max} database"
            f" connections of this process (setting database.{name}_part), and {why}; send fewer at"
            " once, or try again."
        )

    def _note_refused(self, gate: str, places: Places, caller: str) -> Literal["full", "share"]:
        why: Literal["full", "share"] = "share" if places.free else "full"
        self._refusals.note(gate, why, caller)
        return why

    def _of_app_refused(
        self, gate: str, places: Places, caller: str, full: RequestError
    ) -> RequestError:
        if self._note_refused(gate, places, caller) == "full":
            return full
        what, setting = (
            ("WebSockets", "callers.max_thread_streams and server.max_app_sockets")
            if places is self.app_sockets
            else ("requests", "server.max_connections")
        )
        return CallerShareUsed(
            f"You have {places.held_by(caller)} {what} of the app open in this process, your share"
            f" of the places (settings callers.share, {setting}). End some, or try again."
        )

    def _lasting_refused(
        self, gate: str, places: Places, caller: str, full: RequestError
    ) -> RequestError:
        if self._note_refused(gate, places, caller) == "full":
            return full
        of_thread = places is self.thread_streams
        setting = "max_thread_streams" if of_thread else "max_open_answers"
        what = "streams of threads" if of_thread else "streams, waits and joins"
        if places.most and places.held_by(caller) >= places.most:
            return CallerShareUsed(
                f"You have {places.held_by(caller)} {what} open in this process, as many as"
                f" callers.{setting} allows. End some, or try again."
            )
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
        gates = _gates_of(request)
        if name == "lists":
            gates.check_page(values)
        # The request may wait here, and this gate bounds the work after it.
        end_turn(request)
        async with gates.of_pool(name, current_caller.get()):
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
