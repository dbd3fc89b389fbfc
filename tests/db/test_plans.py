"""No statement reads a whole table that grows, whatever Postgres knows about the table."""

import asyncio
import json
import time
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from headrace.db.pool import SharedPool
from tests.db import plans
from tests.support.apps import app_client, settings_for
from tests.support.database import open_pool
from tests.support.engine import open_saver


def _settings(url, folder):
    (folder / "plans.py").write_text(plans.GRAPHS)
    manifest = folder / "langgraph.json"
    manifest.write_text(
        json.dumps({"graphs": {n: f"{folder}/plans.py:{n}" for n in ("plain", "asking", "slow")}})
    )
    return settings_for(
        url,
        manifest,
        database={"url": url, "pool_max": 4, "pool_min": 1},
        events={"poll_seconds": 0.2},
        worker={"sweep_seconds": 0.5},
    )


@asynccontextmanager
async def opened(url, folder, database):
    async with AsyncExitStack() as stack:
        s = _settings(url, folder)
        here = await stack.enter_async_context(app_client(s))
        there = await stack.enter_async_context(app_client(s))
        pool = await stack.enter_async_context(open_pool(url, pool_max=2))
        saver = await stack.enter_async_context(open_saver(pool))
        yield plans.Steps(here, there, pool, saver, database), pool


async def safe(name, step):
    try:
        await asyncio.wait_for(step(), 20)
    except BaseException as error:
        import traceback

        print("STEPFAIL", name, repr(error)[:300], traceback.extract_tb(error.__traceback__)[-3:])


async def look(steps, pools, database, state):
    for name, step in steps.all().items():
        await plans.report_reads(pools)
        await asyncio.sleep(0.05)
        before = plans.reads(database)
        t = time.time()
        await safe(name, step)
        t = time.time() - t
        await plans.report_reads(pools)
        await asyncio.sleep(0.05)
        after = plans.reads(database)
        bad = {
            n: r.since(before[n])
            for n, r in after.items()
            if r.since(before[n]).scanned > 1000 or r.since(before[n]).fetched > 3000
        }
        print("LOOK", state, name, f"{t:.2f}", bad)


@pytest.mark.parametrize("state", ["fresh", "analysed", "restored"])
async def test_x(state, database_url, database, tmp_path):
    plans.quiet_tables(database)
    if state == "restored":
        plans.grow(database)
    async with opened(database_url, tmp_path, database) as (steps, pool):
        if state != "restored":
            for n in range(6):
                t = time.time()
                for name, step in steps.all().items():
                    if name != "nothing":
                        await safe(name, step)
                print("round", time.time() - t)
                if n == 0 and state == "analysed":
                    database.execute("ANALYZE")
            t = time.time()
            plans.grow(database)
            print("grow", time.time() - t)
        import gc

        pools = [o for o in gc.get_objects() if isinstance(o, SharedPool)]
        await look(steps, pools, database, state)
