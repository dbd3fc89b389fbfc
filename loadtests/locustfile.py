"""What Locust loads: the users, the shape of the run, the report. See README.md."""

import os
import sys
from typing import Any

from locust import LoadTestShape, events

from loadtests.common.profile import profile_from
from loadtests.common.report import Report
from loadtests.scenarios.chat import ChatUser

__all__ = ["ChatUser", "Ramp"]

try:
    _PROFILE = profile_from(os.environ)
except ValueError as error:
    sys.exit(str(error))


class Ramp(LoadTestShape):
    """All users come within the ramp and stay until the time is over."""

    def tick(self) -> tuple[int, float] | None:
        if self.get_run_time() >= _PROFILE.seconds:
            return None
        return _PROFILE.users, _PROFILE.users_per_second


@events.init.add_listener
def report(environment: Any, **_: Any) -> None:
    Report(environment, _PROFILE)
