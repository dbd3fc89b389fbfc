"""The servers of this repository that headrace is compared with answer as their clients expect."""

import json
from typing import Any

import httpx
import pytest

from loadtests.compare.workloads import run_body
from loadtests.peers import ceiling, memory
from tests.support.apps import started

BODY = run_body("trivial", [{"role": "user", "content": "hi"}])


@pytest.mark.parametrize("make_app", [ceiling.app, memory.app])
async def test_a_stream_has_the_values_that_wait_answers(make_app):
    async with (
        started(make_app()) as served,
        httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://peer") as client,
    ):
        waited = await client.post("/threads/a/runs/wait", json=BODY)
        streamed = await client.post("/threads/b/runs/stream", json=BODY)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    first, last, end, rest = streamed.text.split("\n\n")
    assert (end, rest) == ("event: end\ndata: null", "")
    assert [len(values_of(one)["messages"]) for one in (first, last)] == [1, 2]
    # Ids are new in each run.
    assert without_ids(values_of(last)) == without_ids(waited.json())


def values_of(event: str) -> Any:
    head, _, data = event.partition("\ndata: ")
    assert head == "event: values"
    return json.loads(data)


def without_ids(values: Any) -> list[Any]:
    return [{**one, "id": ""} for one in values["messages"]]
