"""The key of a request, and the id that is reserved for it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from uuid import UUID

from headrace.auth.principal import ANONYMOUS, Principal

HEADER = "Idempotency-Key"
MAX_KEY_LENGTH = 255


def do_nothing() -> None:
    """For a request that has nothing to give back while it waits."""


@dataclass(frozen=True, slots=True)
class RequestKey:
    """One POST and its retries. ``route`` is the path with ids: each thread has its own keys.

    ``before_waiting`` is called before this request waits for another one with its key.
    """

    route: str
    key: str
    body_sha256: bytes
    before_waiting: Callable[[], None] = field(default=do_nothing, compare=False, repr=False)

    @classmethod
    def of(
        cls, route: str, key: str, body: bytes, *, before_waiting: Callable[[], None] = do_nothing
    ) -> "RequestKey":
        return cls(route, key, sha256(body).digest(), before_waiting)

    def route_of(self, principal: Principal) -> str:
        """The route as it is stored: each owner has its own keys.

        A path begins with a slash, and no other caller's route can look like it.
        """
        identity = principal.identity
        if identity == ANONYMOUS.identity:
            return self.route
        return f"@{len(identity)}:{identity} {self.route}"

    def part(self, number: int) -> "RequestKey":
        """The key for one of several resources that a request creates."""
        return replace(self, route=f"{self.route}#{number}")


@dataclass(frozen=True, slots=True)
class Reservation:
    """The id for the run or thread of a request; all tries get one id, in all processes.

    ``made``: an earlier try has created the resource. ``resumed``: it may have.
    """

    resource_id: UUID
    made: bool
    resumed: bool = False
