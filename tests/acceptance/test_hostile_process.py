"""User code that ends its process, or tries to: the pod lives, and so do innocent runs."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.database import fresh_database
from tests.support.live import GRAPHS, LiveServer, live_server
from tests.support.processes import wait_until

pytestmark = pytest.mark.acceptance

HOSTILE = GRAPHS.with_name("hostile.json")
LEASE = {
    "HEADRACE_WORKER__LEASE_SECONDS": "1.5",
    "HEADRACE_WORKER__HEARTBEAT_SECONDS": "0.4",
    "HEADRACE_WORKER__SWEEP_SECONDS": "0.2",
}
