"""What strangers ask for makes no series: every method on every path, and methods of their own."""

import re

from tests.support.apps import GRAPHS, app_client, settings_for
from tests.support.exposition import Exposition

_KEY = "only-for-this-test"
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")


async def test_every_method_on_every_path_makes_no_series_but_those_of_the_api(
    database_url: str,
) -> None:
    settings = settings_for(
        database_url,
        GRAPHS / "langgraph.json",
        api_keys=_KEY,
        metrics={"cache_seconds": 0},
        edge={"metrics": "on"},
    )
    async with app_client(settings) as client:
        described = (await client.get("/openapi.json", headers={"x-api-key": _KEY})).json()
        paths = described["paths"]
        assert len(paths) > 25
        for path in [*paths, "/wp-admin"]:
            for method in _METHODS:
                await client.request(method, re.sub(r"\{\w+\}", "x", path))
        found = Exposition((await client.get("/metrics")).text)
    plain = {re.sub(r":\w+\}", "}", path) for path in paths}
    series = [
        (labels["method"], re.sub(r":\w+\}", "}", labels["route"]), labels["status"])
        for name, labels, _ in found.samples
        if name == "headrace_http_requests_total"
    ]
    assert not [one for one in series if one[2] == "405" and one[1] in plain]
    assert {method for method, *_ in series} <= {*_METHODS[:-2], "__other__"}
    assert len(series) < 2 * sum(len(operations) for operations in paths.values())
    assert found.value("headrace_http_requests_total", route="__unmatched__", status="405") > 100
