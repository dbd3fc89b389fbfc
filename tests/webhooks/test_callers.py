"""How callers share the calls of a process: the messages of one do not hold up those of another."""

import json
from contextlib import ExitStack
from uuid import uuid4

import pytest

from headrace.db.pool import SharedPool
from headrace.webhooks.receivers import CallBounds
from headrace.webhooks.repository import DeliveryRepository
from tests.support.apps import GRAPHS, app_client_and_state, settings_for
from tests.support.hook_receiver import hook_receiver
from tests.support.waiting import eventually

KEYS = "one-long-key-of-a-caller,another-long-key-of-a-caller"


@pytest.fixture
def settings(database_url, tmp_path):
    def made(**webhooks):
        manifest = tmp_path / "langgraph.json"
        url = {"require_https": False, "disable_loopback": False}
        graphs = {"agent": f"{GRAPHS / 'graphs.py'}:agent"}
        http = {"disable_webhooks": not webhooks}
        manifest.write_text(json.dumps({"graphs": graphs, "webhooks": {"url": url}, "http": http}))
        return settings_for(database_url, manifest, webhooks=webhooks, api_keys=KEYS)

    return made


def due(database, receiver, *, tenant="default", owner="o", seconds_ago=0, run="{}"):
    """A delivery that is due since then; returns its run."""
    run_id = uuid4()
    database.execute(
        "INSERT INTO webhook_deliveries"
        " (run_id, thread_id, tenant, owner, url, receiver, state, run, due_at)"
        " VALUES (%s, 't', %s, %s, %s, %s, 'due', %s, now() - make_interval(secs => %s))",
        (run_id, tenant, owner, f"http://{receiver}/hook", receiver, run, seconds_ago),
    )
    return run_id


async def test_deliveries_of_callers_with_enough_calls_stay(settings, database):
    async with app_client_and_state(settings()) as (_, state):
        repository = DeliveryRepository(state.get(SharedPool))
        for _ in range(20):
            due(database, "hangs", tenant="noisy", seconds_ago=60)
        known = due(database, "good", tenant="noisy", seconds_ago=50)
        # Its name is that of the tenant; in the default tenant each owner is a caller.
        one = due(database, "hangs", owner="noisy", seconds_ago=40)
        other = due(database, "good", tenant="quiet", seconds_ago=30)

        async def claimed(**bounds):
            found = await repository.claim(limit=3, bounds=CallBounds(**bounds), lease_seconds=0)
            await repository.release(found, seconds=-60)
            return [delivery.run_id for delivery in found]

        noisy = "tenant noisy"
        assert set(await claimed(full=[noisy])) == {one, other}
        assert set(await claimed(busy=[f"{noisy}\nhangs"])) == {known, one, other}
        assert set(await claimed(bounded=[noisy])) == {one, other}
        bounded = {"bounded": [noisy], "known": [f"{noisy}\ngood"]}
        assert set(await claimed(**bounded)) == {known, one, other}
        # What another caller knows of the receiver counts for nothing.
        assert await claimed(bounded=None, known=["tenant quiet\ngood"]) == [other]


async def test_who_called_is_not_sent(settings, database):
    async with app_client_and_state(settings()) as (_, state):
        run = {"kwargs": {"input": 1, "auth": {"user": {"token": "s3cret"}}}}
        due(database, "r", run=json.dumps(run))
        (found,) = await DeliveryRepository(state.get(SharedPool)).claim(
            limit=3, bounds=CallBounds(), lease_seconds=0
        )
        assert json.loads(found.run) == {"kwargs": {"input": 1}}


async def test_a_caller_with_many_receivers_that_hang_does_not_hold_up_another(settings, database):
    """Half of 16 calls go to receivers that are not known to answer, as all are after a start."""
    with ExitStack() as stack:
        hanging = [stack.enter_context(hook_receiver()) for _ in range(10)]
        for one in hanging:
            one.answering.clear()
            for _ in range(20):
                due(database, f"localhost:{one.port}", tenant="noisy", seconds_ago=600)
        webhooks = {"timeout_seconds": 60, "poll_seconds": 0.1, "max_in_flight": 16}
        async with app_client_and_state(settings(**webhooks)):
            await eventually(lambda: sum(one.most_in_flight for one in hanging) >= 6)
            quiet = stack.enter_context(hook_receiver())
            due(database, f"localhost:{quiet.port}", tenant="quiet")
            await eventually(lambda: quiet.received)
            for one in hanging:
                one.answering.set()
