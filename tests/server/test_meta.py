"""/ok, /info and /metrics as JSON: what clients ask before anything else."""

import asyncio
from importlib.metadata import version

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from headrace.assistants import endpoints as assistants
from headrace.edge.body_memory import BodyMemory
from headrace.edge.state import State
from headrace.health.checks import DatabaseQuestion
from headrace.lifecycle import Tasks
from headrace.server import meta
from headrace.server.app import build_router
from headrace.settings import Settings
from headrace.threads import endpoints as threads
from tests.support.database import open_pool


@pytest.mark.acceptance
def test_ok_asks_the_database_when_asked_to(forms_server):
    assert forms_server.get("/ok").json() == {"ok": True, "services": {}}
    checked = forms_server.get("/ok?check_db=1")
    assert checked.json() == {"ok": True, "services": {"database": "ok"}}


@pytest.mark.acceptance
def test_info_tells_versions_and_what_is_there(forms_server):
    told = forms_server.get("/info").json()
    assert told["version"] == version("headrace")
    assert told["langgraph_py_version"] == version("langgraph")
    assert told["host"] == {
        "kind": "self-hosted",
        "project_id": None,
        "host_revision_id": None,
        "revision_id": None,
        "tenant_id": None,
    }
    flags = told["flags"]
    assert [name for name, there in flags.items() if there] == [
        "assistants",
        "threads",
        "runs",
        "store",
        "crons",
        "threads_stream",
        "strict_resume",
        "webhooks",
    ]
    assert {"langsmith", "langsmith_tracing_replicas"} <= set(flags)
    for name, path in (("crons", "/runs/crons/search"), ("store", "/store/items/search")):
        status = httpx.post(forms_server.url + path, json={}).status_code
        assert (status not in (404, 501)) is flags[name]


async def flags_of(app: FastAPI, path: str = "/info") -> set[str]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        flags = (await client.get(path)).json()["flags"]
    return {name for name, there in flags.items() if there}


async def test_flags_are_those_of_the_app_that_answers():
    some = FastAPI()
    for router in (meta.info_router, threads.router):
        some.include_router(router)
    assert await flags_of(some) == {"threads", "strict_resume"}
    below = FastAPI()
    below.include_router(build_router(), prefix="/api")
    assert await flags_of(below, "/api/info") == {
        "assistants",
        "threads",
        "runs",
        "store",
        "crons",
        "threads_stream",
        "strict_resume",
        "webhooks",
    }
    outer, inner = FastAPI(), APIRouter()
    inner.include_router(meta.info_router)
    inner.include_router(assistants.router)
    outer.include_router(inner)
    assert await flags_of(outer) == {"assistants", "strict_resume"}


async def test_a_database_that_is_gone_is_503_and_asked_once_by_many(private_postgres):
    async with open_pool(private_postgres.url, pool_min=1, pool_max=2) as pool:
        tasks = Tasks()
        question = DatabaseQuestion(pool, tasks, timeout_seconds=1.0)
        app = FastAPI()
        app.include_router(meta.router)

        state = State(Settings(), question, BodyMemory(total_bytes=1, wait_seconds=1.0))

        @app.middleware("http")
        async def with_state(request, call_next):
            request.state.headrace = state
            return await call_next(request)

        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.get("/ok?check_db=true")).status_code == 200
            private_postgres.stop()
            asked = [client.get("/ok?check_db=1") for _ in range(20)]
            for gone in await asyncio.gather(*asked):
                assert gone.status_code == 503
                assert gone.json()["code"] in ("database_unavailable", "pool_exhausted")
            assert (await client.get("/ok")).json()["ok"] is True
            private_postgres.start()
        await tasks.stop()


@pytest.mark.acceptance
def test_metrics_come_as_json_too(forms_server):
    forms_server.get("/info")
    told = forms_server.get("/metrics?format=json").json()
    assert told["queue"].keys() == {
        "n_pending",
        "pending_runs_wait_time_max_secs",
        "pending_runs_wait_time_med_secs",
        "pending_unblocked_runs_wait_time_max_secs",
        "n_running",
    }
    (asked,) = [
        one
        for one in told["api"]["http_requests_total"]
        if (one["method"], one["path"], one["status"]) == ("GET", "/info", 200)
    ]
    assert asked["count"] >= 1
    assert forms_server.get("/metrics?format=text").text.startswith("# HELP")
