"""Who asks through a door, and with which request."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.auth.principal import Principal
from headrace.chat.service import speaker
from headrace.idempotency.schemas import RequestKey
from headrace.tracing.tracer import RequestTrace


@dataclass(frozen=True, slots=True)
class DoorCaller:
    """The caller and what headrace needs of its request to make a run.

    :ivar headers: headers of the request that its run sees.
    """

    principal: Principal
    request_id: str
    trace: RequestTrace
    key: RequestKey | None
    headers: Mapping[str, str]

    def configurable(self, user: str | None) -> dict[str, str]:
        """The user who speaks, as graphs find it.

        :param user: whom the request names. The identity of an authenticated caller replaces it.
        """
        found = speaker(self.principal, user)
        return {"user_id": found} if found else {}

    def options(self) -> dict[str, Any]:
        """The arguments of :meth:`RunService.create` that are of the request."""
        return {
            "request_id": self.request_id,
            "trace": self.trace,
            "key": self.key,
            "headers": self.headers,
        }
