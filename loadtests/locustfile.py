"""What Locust loads: the users, the shape of the run, the report. See README.md."""

import os
import sys
from typing import Any

from locust import LoadTestShape, events

from loadtests.common.api import CONVERSATION
from loadtests.common.profile import profile_from
from loadtests.common.report import Report
from loadtests.common.server import api_key_header, missing_graphs
from loadtests.common.sse import FIRST_EVENT, REFUSED
from loadtests.scenarios.users import user_of

__all__ = ["LoadUser", "Ramp"]

try:
    _PROFILE = profile_from(os.environ)
except ValueError as error:
    sys.exit(str(error))

LoadUser = user_of(_PROFILE)


class Ramp(LoadTestShape):
    """Users come within the ramp and stay until time or requests are over; or in steps."""

    def tick(self) -> tuple[int, float] | None:
        if _PROFILE.requests and self._requests() >= _PROFILE.requests:
            return None
        users = _PROFILE.users_at(self.get_run_time())
        return None if users is None else (users, _PROFILE.users_per_second)

    def _requests(self) -> int:
        """A stream counts once: its first event is none, a refusal and a whole scenario neither."""
        return sum(
            one.num_requests
            for (name, method), one in self.runner.stats.entries.items()
            if method != CONVERSATION and not name.endswith((FIRST_EVENT, REFUSED))
        )


@events.init.add_listener
def report(environment: Any, **_: Any) -> None:
    missing = missing_graphs(environment.host or "", api_key_header(os.environ), _PROFILE.graphs)
    if missing:
        sys.exit(
            f"LOAD_PROFILE={_PROFILE.name}: {environment.host} does not serve"
            f" {' and '.join(missing)}. Start it with"
            " HEADRACE_CONFIG=loadtests/graphs/langgraph.json (loadtests/README.md)."
        )
    Report(environment, _PROFILE)
