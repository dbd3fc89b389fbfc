"""Requests of a user of the load test, each checked: a wrong answer is a failure of its request."""

import os
import random
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from locust import task
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS, FastHttpUser

from loadtests.common.events import Event, StreamFailed
from loadtests.common.profile import Profile
from loadtests.common.server import api_key_header
from loadtests.common.sse import REFUSED, Refused, follow, refused_for

#: Users of different load tests on one database are different users.
TEST = uuid.uuid4().hex[:8]

#: Request type under which completed scenarios stand among Locust's entries.
CONVERSATION = "CONVERSATION"


class WrongReply(StreamFailed):
    """An answer came, and it is not the right one."""


class Abandoned(Exception):
    """A request of a scenario failed, and is written down: what follows it has no meaning."""


Check = Callable[[Any], None]


def require(found: object, wanted: object, what: str) -> None:
    """:raises WrongReply: they differ."""
    if found != wanted:
        raise WrongReply(f"{what}: '{found}', not '{wanted}'")


class Api:
    """What a scenario may do with the server."""

    def __init__(self, user: FastHttpUser, profile: Profile) -> None:
        self._user = user
        self._profile = profile

    def think(self) -> None:
        """Pause as a person or a program would."""
        # Locust has put gevent under it.
        time.sleep(self._profile.pause(random.random()))

    def ask(
        self, method: str, path: str, body: Any = None, *, name: str, check: Check | None = None
    ) -> Any:
        """Send one request, after a pause; the JSON of the answer.

        Where the profile says so, a refusal is waited out and the request sent again.

        :param check: gets the JSON and raises WrongReply when it is not right.
        :raises Abandoned: it failed.
        """
        while True:
            self.think()
            try:
                return self._ask(method, path, body, name, check)
            except Refused as refusal:
                time.sleep(refusal.seconds)

    def _ask(self, method: str, path: str, body: Any, name: str, check: Check | None) -> Any:
        with self._user.client.request(
            method,
            path,
            name=name,
            json=body,
            catch_response=True,
            allow_redirects=False,
        ) as response:
            try:
                if self._profile.waits_out_refusals:
                    self._look_for_refusal(response, name)
                value = _value(response)
                if check is not None:
                    check(value)
            except (WrongReply, StreamFailed) as error:
                response.failure(error)
                raise Abandoned from error
            except (KeyError, IndexError, TypeError, ValueError) as error:
                response.failure(WrongReply(f"the answer has another form: {error!r}"))
                raise Abandoned from error
        return value

    def _look_for_refusal(self, response: Any, name: str) -> None:
        """:raises Refused: it is one; it is counted apart."""
        if (seconds := refused_for(response)) is not None:
            response.request_meta["name"] = f"{name} {REFUSED}"
            response.success()
            raise Refused(seconds)

    def stream(
        self,
        path: str,
        body: Any,
        *,
        name: str,
        check: Callable[[Sequence[Event]], None],
        method: str = "POST",
        last_event_id: str | None = None,
        until: int | None = None,
    ) -> list[Event]:
        """Follow a stream to its end, after a pause; its events.

        :param until: hang up after so many events, on purpose.
        :raises Abandoned: it failed.
        """
        while True:
            self.think()
            try:
                found = follow(
                    self._user,
                    path,
                    body,
                    name=name,
                    check=_forgiving(check),
                    method=method,
                    last_event_id=last_event_id,
                    until=until,
                    may_refuse=self._profile.waits_out_refusals,
                )
            except Refused as refusal:
                time.sleep(refusal.seconds)
                continue
            if found is None:
                raise Abandoned
            return found

    def new_thread(self) -> str:
        """:raises Abandoned: it was not made."""
        thread_id = str(uuid.uuid4())
        body = {"thread_id": thread_id, "if_exists": "raise", "metadata": {"load": TEST}}
        self.ask(
            "POST",
            "/threads",
            body,
            name="/threads",
            check=lambda made: require(made["thread_id"], thread_id, "another thread"),
        )
        return thread_id


def _forgiving(check: Callable[[Sequence[Event]], None]) -> Callable[[Sequence[Event]], None]:
    """``check``, but an event of another form is a wrong reply."""

    def checked(events: Sequence[Event]) -> None:
        try:
            check(events)
        except (KeyError, IndexError, TypeError) as error:
            raise WrongReply(f"the answer has another form: {error!r}") from error

    return checked


def _value(response: Any) -> Any:
    if response.status_code == 0:
        error = getattr(response, "error", None)
        raise StreamFailed(repr(error))
    if response.status_code not in (200, 202, 204):
        raise StreamFailed(f"HTTP {response.status_code}: {(response.text or '')[:200]}")
    return response.json() if response.content else None


Journey = Callable[[Api], None]


class JourneyUser(FastHttpUser):
    """A user who does one journey after the other. Each is a task, so the end cuts none in two."""

    abstract = True
    max_retries = 0
    default_headers = api_key_header(os.environ)
    profile: Profile
    #: Journeys with their weights.
    journeys: Sequence[tuple[Journey, int]] = ()

    def on_start(self) -> None:
        self._api = Api(self, self.profile)
        self._journeys = [journey for journey, _ in self.journeys]
        self._weights = [weight for _, weight in self.journeys]

    @task
    def travel(self) -> None:
        """One journey."""
        (journey,) = random.choices(self._journeys, self._weights)
        began = time.perf_counter()
        try:
            journey(self._api)
        except Abandoned:
            return
        except FAILURE_EXCEPTIONS:
            return
        self.environment.events.request.fire(
            request_type=CONVERSATION,
            name=journey.__name__,
            response_time=(time.perf_counter() - began) * 1000,
            response_length=0,
            response=None,
            context=self.context(),
            exception=None,
        )
