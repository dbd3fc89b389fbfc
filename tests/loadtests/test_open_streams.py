"""`python -m loadtests.open_streams` in small: the same client, a few streams, a real server."""

from collections import Counter

import pytest

from loadtests.open_streams import Measured, measure
from tests.support.live import live_server
from tests.support.sources import ROOT

pytestmark = [pytest.mark.acceptance, pytest.mark.alone]

CONFIG = ROOT / "loadtests" / "streams" / "langgraph.json"


async def test_quiet_streams_hear_heartbeats_on_time_and_livez_answers(tmp_path, database_url):
    with live_server(
        tmp_path, database_url, config=CONFIG, HEADRACE_SERVER__PING_SECONDS="1"
    ) as server:
        found = await measure(server.port, streams=100, seconds=4.0)
    assert found.complete == 100
    assert 0.5 < found.longest_silence_seconds < 2.0
    assert found.livez_p99_ms < 500
    # So few weigh little beside what a process takes for other reasons in the meantime.
    assert found.kilobytes_per_stream < 400


def test_a_missed_floor_is_told():
    good = Measured(
        streams=10,
        complete=10,
        longest_silence_seconds=5.1,
        kilobytes_per_stream=90.0,
        livez_p99_ms=20.0,
        opened_in_seconds=1.0,
        ends=Counter(),
    )
    assert all(kept for *_, kept in good.table())
    bad = Measured(
        streams=10,
        complete=9,
        longest_silence_seconds=7.0,
        kilobytes_per_stream=101.0,
        livez_p99_ms=101.0,
        opened_in_seconds=1.0,
        ends=Counter(),
    )
    assert not any(kept for *_, kept in bad.table())
