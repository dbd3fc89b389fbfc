"""One form of dates on every route, whatever zone the database's sessions have: the original's."""

import json
import re
from typing import Any

from tests.values.calls import events, get, new_thread, run_of, wait

_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?\+00:00")
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d.*")


def dates(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [one for item in value.values() for one in dates(item)]
    if isinstance(value, list | tuple):
        return [one for item in value for one in dates(item)]
    return [value] if isinstance(value, str) and _DATE.fullmatch(value) else []


async def test_dates_have_one_form(client):
    thread_id = await new_thread(client, ttl={"ttl": 60, "strategy": "delete"})
    await wait(client, thread_id, "left", input={"case": "tuple_key"})
    run_id = await run_of(client, thread_id)
    made = (await client.post("/assistants", json={"graph_id": "left"})).json()
    assistant = f"/assistants/{made['assistant_id']}"
    item = {"namespace": ["dates"], "key": "k", "value": {}}
    assert (await client.put("/store/items", json=item)).status_code == 204
    path = f"/threads/{thread_id}"

    async def post(where: str, body: Any) -> Any:
        return (await client.post(where, json=body)).json()

    told = {
        "made thread": await post("/threads", {}),
        "thread": await get(client, f"{path}?include=ttl"),
        "changed thread": (await client.patch(path, json={"metadata": {"a": 1}})).json(),
        "threads": await post("/threads/search", {"ids": [thread_id]}),
        "copy": (await client.post(f"{path}/copy")).json(),
        "state": await get(client, f"{path}/state"),
        "history": await get(client, f"{path}/history"),
        "run": await get(client, f"{path}/runs/{run_id}"),
        "runs": await get(client, f"{path}/runs"),
        "made run": await post(f"{path}/runs", {"assistant_id": "left", "input": {"case": "nan"}}),
        "batch": await post("/runs/batch", [{"assistant_id": "left", "input": {"case": "nan"}}]),
        "made assistant": made,
        "assistant": await get(client, assistant),
        "changed": (await client.patch(assistant, json={"name": "x"})).json(),
        "assistants": await post("/assistants/search", {}),
        "versions": await post(f"{assistant}/versions", {}),
        "latest": await post(f"{assistant}/latest", {"version": 1}),
        "item": await get(client, "/store/items?namespace=dates&key=k"),
        "items": await post("/store/items/search", {"namespace_prefix": ["dates"]}),
        "events": await events(
            client,
            await new_thread(client),
            "left",
            input={"case": "nan"},
            stream_mode=["debug", "checkpoints", "tasks"],
        ),
    }
    for where, answer in told.items():
        found = dates(answer)
        assert found, f"{where}: {json.dumps(answer)[:200]}"
        assert [one for one in found if not _UTC.fullmatch(one)] == [], where
