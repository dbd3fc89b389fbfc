"""Row 15 of the attack: hundreds of endless runs by one key, and another key beside it."""

from time import monotonic

import httpx
import pytest

from tests.support.live import live_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

KEYS = {name: {"x-api-key": f"the-key-of-{name}-is-long-enough"} for name in ("one", "two")}
ENDLESS = {"assistant_id": "slow", "input": {"seconds": 3600}}
BRIEF = {"assistant_id": "slow", "input": {"seconds": 0}}


# It has a bound on time.
@pytest.mark.alone
def test_four_hundred_endless_runs_of_one_key_leave_places_for_another(tmp_path, database_url):
    with (
        live_server(
            tmp_path,
            database_url,
            HEADRACE_API_KEYS=",".join(key["x-api-key"] for key in KEYS.values()),
            HEADRACE_WORKER__MAX_CONCURRENT_RUNS="20",
            HEADRACE_SERVER__GRACE_SECONDS="0",
        ) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        for _ in range(4):
            client.post("/runs/batch", json=[ENDLESS] * 100, headers=KEYS["one"]).raise_for_status()
        # Each process has its share of them, whichever process they were sent to.
        wait_until(lambda: most_places(server) == [15, 15], seconds=20)
        for _ in range(10):
            begun = monotonic()
            answer = client.post("/runs/wait", json=BRIEF, headers=KEYS["two"])
            assert answer.json()["done"] == [0, 1, 2]
            assert monotonic() - begun < 5
        assert most_places(server) == [15, 15]


def most_places(server):
    return [one["callers"]["most_places"] for one in server.report()["processes"]]
