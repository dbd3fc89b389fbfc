"""What one caller's runs may take: events of one, and how many a process executes."""

from pathlib import Path

import pytest

from tests.support.apps import app_client, settings_for
from tests.support.waiting import eventually

ATTACKED = Path(__file__).parents[1] / "attack" / "graph" / "langgraph.json"


@pytest.mark.parametrize(
    ("bound", "named"),
    [
        ({"max_run_events": 3}, "events.max_run_events"),
        ({"max_run_bytes": 100_000}, "events.max_run_bytes"),
    ],
)
async def test_a_run_that_sends_too_many_events_ends_as_error(database_url, bound, named):
    limited = settings_for(database_url, ATTACKED, events=bound)
    large = {"assistant_id": "large", "input": {"megabytes": 1, "steps": 20}}
    async with app_client(limited) as client:
        thread = (await client.post("/threads", json={})).json()["thread_id"]
        asked = {**large, "stream_mode": ["values", "updates"]}
        told = (await client.post(f"/threads/{thread}/runs/stream", json=asked)).text
        assert "event: error" in told
        assert "RunEventsExceeded" in told
        assert named in told
        assert len(told) < 20_000_000
        (run,) = (await client.get(f"/threads/{thread}/runs")).json()
        assert run["status"] == "error"
        # A run that nobody follows sends nothing.
        other = (await client.post("/threads", json={})).json()["thread_id"]
        run = (await client.post(f"/threads/{other}/runs", json=large)).json()

        async def ended():
            found = (await client.get(f"/threads/{other}/runs/{run['run_id']}")).json()
            return found["status"] == "success"

        await eventually(ended)


async def test_a_process_executes_so_many_runs_of_one_caller(database_url):
    limited = settings_for(database_url, ATTACKED, callers={"max_running_runs": 2})
    async with app_client(limited) as client:
        paths = []
        for _ in range(4):
            thread = (await client.post("/threads", json={})).json()["thread_id"]
            asked = {"assistant_id": "sleeper", "input": {"seconds": 3600}}
            run = (await client.post(f"/threads/{thread}/runs", json=asked)).json()["run_id"]
            paths.append(f"/threads/{thread}/runs/{run}")

        async def statuses():
            return sorted([(await client.get(path)).json()["status"] for path in paths])

        assert await statuses() == ["pending", "pending", "running", "running"]
        running = [path for path in paths if (await client.get(path)).json()["status"] == "running"]
        await client.post(f"{running[0]}/cancel?wait=true")

        async def one_more_runs():
            return (await statuses()).count("running") == 2

        await eventually(one_more_runs)
