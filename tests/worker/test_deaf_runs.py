"""Runs that end while their graph or a thread goes on: they keep their places, and harm nobody."""

import asyncio

import pytest

from tests.support.apps import GRAPHS, app_client, settings_for
from tests.support.waiting import eventually

DEAF = GRAPHS / "deaf.json"
#: As long as a graph may take over its cancel, and somewhat more.
STOPPED_SECONDS = 10.0


class Deaf:
    """A client of a process with two places, and the file that ends what goes on."""

    def __init__(self, client, folder):
        self.client = client
        self.until = folder / "until"
        self.never = folder / "never"

    def body(self, how, **more):
        return {
            "assistant_id": "deaf",
            "input": {"how": how, "until": str(self.until), **more},
        }

    async def begin(self, how, **more):
        thread = (await self.client.post("/threads", json={})).json()["thread_id"]
        url = f"/threads/{thread}/runs"
        run = (await self.client.post(url, json=self.body(how, **more))).json()
        return f"{url}/{run['run_id']}"

    async def status(self, run):
        return (await self.client.get(run)).json()["status"]

    async def cancel(self, run):
        """Until its row says so."""
        await self.client.post(f"{run}/cancel", params={"wait": True})
        await self.until_status(run, "interrupted")

    async def until_status(self, run, status):
        async def told():
            return await self.status(run) == status

        await eventually(told, seconds=STOPPED_SECONDS)

    async def figures(self):
        (process,) = (await self.client.get("/health")).json()["processes"]
        return process

    async def until_figure(self, name, value):
        async def told():
            return (await self.figures())[name] == value

        await eventually(told, seconds=STOPPED_SECONDS)

    async def until_busy(self, threads):
        async def told():
            return (await self.figures())["threads"]["busy"] == threads

        await eventually(told, seconds=STOPPED_SECONDS)


@pytest.fixture
async def deaf(database_url, tmp_path, request):
    worker = {"max_concurrent_runs": 2, **getattr(request, "param", {})}
    async with app_client(settings_for(database_url, DEAF, worker=worker)) as client:
        deaf = Deaf(client, tmp_path)
        try:
            yield deaf
        finally:
            deaf.until.touch()


@pytest.mark.parametrize("how", ["on_the_loop", "in_a_thread"])
async def test_a_third_run_waits_for_the_place_of_a_deaf_one(deaf, how, capsys):
    runs = [await deaf.begin(how) for _ in range(2)]
    await deaf.until_figure("runs_running", 2)
    await asyncio.gather(*(deaf.cancel(run) for run in runs))
    await deaf.until_figure("deaf_runs", 2)
    assert (await deaf.figures())["runs_running"] == 0
    third = await deaf.begin("in_a_thread_of_its_own")
    await asyncio.sleep(1.5)
    assert await deaf.status(third) == "pending"
    metrics = (await deaf.client.get("/metrics")).text
    assert "headrace_deaf_runs 2.0" in metrics
    deaf.until.touch()
    await deaf.until_status(third, "success")
    await deaf.until_figure("deaf_runs", 0)
    await deaf.until_busy(0)


async def test_a_run_that_is_out_of_time_is_counted_too(database_url, tmp_path):
    # Enough for its thread to begin on a busy machine: a run that ends before it is not deaf.
    worker = {"max_concurrent_runs": 2, "run_timeout_seconds": 2.0}
    async with app_client(settings_for(database_url, DEAF, worker=worker)) as client:
        deaf = Deaf(client, tmp_path)
        # The first run of a process takes longer to begin.
        await client.post("/runs/wait", json=deaf.body("in_a_thread_of_its_own"))
        run = await deaf.begin("in_a_thread")
        await deaf.until_figure("deaf_runs", 1)
        assert await deaf.status(run) == "timeout"
        deaf.until.touch()
        await deaf.until_figure("deaf_runs", 0)


async def test_threads_of_nodes_own_are_not_known(deaf):
    waited = await deaf.client.post("/runs/wait", json=deaf.body("in_a_thread_of_its_own"))
    assert waited.status_code == 200
    assert (await deaf.figures())["deaf_runs"] == 0


@pytest.mark.parametrize("deaf", [{"max_concurrent_runs": 40}], indirect=True)
async def test_many_sleeping_nodes_do_not_hold_up_another(deaf):
    wide = await deaf.begin("in_a_thread", width=100)
    narrow = [await deaf.begin("in_a_thread") for _ in range(12)]
    # Eighty threads; one is kept for each place.
    await deaf.until_busy(40 + 1 + 12)
    for run in (wide, *narrow):
        await deaf.cancel(run)
    body = deaf.body("in_a_thread")
    body["input"]["until"] = str(DEAF)
    async with asyncio.timeout(5):
        for _ in range(3):
            waited = await deaf.client.post("/runs/wait", json=body)
            assert "__error__" not in waited.json()
        await asyncio.to_thread(int)
    await deaf.until_figure("deaf_runs", 13)
    # What no thread had begun is dropped. A thread of the server's own may be busy for a moment.
    await deaf.until_busy(53)
    assert (await deaf.figures())["threads"]["most"] == 80
    deaf.until.touch()
    await deaf.until_busy(0)
    await deaf.until_figure("deaf_runs", 0)


@pytest.mark.parametrize(
    ("places", "width", "why"), [(2, 1, "hold all places"), (40, 41, "hold half of the threads")]
)
async def test_a_process_that_the_deaf_hold_is_to_be_replaced(
    database_url, tmp_path, places, width, why
):
    worker = {"max_concurrent_runs": places, "deaf_seconds": 1.0}
    async with app_client(settings_for(database_url, DEAF, worker=worker)) as client:
        deaf = Deaf(client, tmp_path)
        runs = [await deaf.begin("in_a_thread", width=width) for _ in range(2 if width == 1 else 1)]
        await deaf.until_busy(len(runs) if width == 1 else 41)
        for run in runs:
            await deaf.cancel(run)
        assert (await client.get("/readyz")).status_code == 200

        async def told():
            # A starved machine may have another reason before.
            ready = await client.get("/readyz")
            return ready.status_code == 503 and why in ready.text

        await eventually(told, seconds=STOPPED_SECONDS)
        deaf.until.touch()
        await deaf.until_figure("deaf_runs", 0)

        async def ready():
            return (await client.get("/readyz")).status_code == 200

        await eventually(ready, seconds=STOPPED_SECONDS)


async def test_a_deaf_run_is_told_and_so_is_its_end(deaf, caplog):
    run = await deaf.begin("on_the_loop")
    await deaf.until_figure("runs_running", 1)
    with caplog.at_level("INFO"):
        await deaf.cancel(run)
        await deaf.until_figure("deaf_runs", 1)
        await eventually(lambda: "run_deaf" in caplog.text)
        deaf.until.touch()
        await eventually(lambda: "deaf_run_gone" in caplog.text)
    assert run.rsplit("/", 1)[1] in caplog.text
