"""The key of a request, and the id that is reserved for it."""

from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

HEADER = "Idempotency-Key"
MAX_KEY_LENGTH = 255


@dataclass(frozen=True, slots=True)
class RequestKey:
    """One POST and its retries. ``route`` is the path with ids: each thread has its own keys."""

    route: str
    key: str
    body_sha256: bytes

    @classmethod
    def of(cls, route: str, key: str, body: bytes) -> "RequestKey":
        return cls(route=route, key=key, body_sha256=sha256(body).digest())

    def part(self, number: int) -> "RequestKey":
        """The key for one of several resources that a request creates."""
        return RequestKey(f"{self.route}#{number}", self.key, self.body_sha256)


@dataclass(frozen=True, slots=True)
class Reservation:
    """The id for the run or thread of a request; all tries get one id, in all processes.

    ``made``: an earlier try has created the resource. ``resumed``: it may have.
    """

    resource_id: UUID
    made: bool
    resumed: bool = False
