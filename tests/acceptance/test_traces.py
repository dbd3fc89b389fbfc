"""Traces of real server processes, as a collector gets them."""

from pathlib import Path

import httpx
import pytest

from tests.support.live import live_server
from tests.support.otlp_receiver import drawn, forest, otlp_receiver

pytestmark = pytest.mark.acceptance

GRAPHS = Path(__file__).parents[1] / "support" / "graphs" / "traced.json"


@pytest.fixture
def receiver():
    with otlp_receiver() as found:
        yield found


@pytest.fixture
def server(tmp_path, database_url, receiver):
    with live_server(
        tmp_path,
        database_url,
        config=GRAPHS,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        OTEL_BSP_SCHEDULE_DELAY="50",
    ) as found:
        yield found


def test_one(server, receiver):
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for graph in ("traced", "parallel"):
            answer = client.post("/runs/wait", json={"assistant_id": graph, "input": {}})
            print(answer.json())
    import time

    time.sleep(1)
    print(drawn(receiver.spans))
    for s in receiver.spans:
        print(s)
    print(server.log()[-3000:])
    assert 0
