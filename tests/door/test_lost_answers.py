"""The database goes away while it commits what a request changes: the change is made once, and the
client gets the answer of an undisturbed request.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from tests.support.apps import GRAPHS, app_client, settings_for, write_manifest
from tests.support.proxy import Fault, Proxy, proxied

#: The answer is lost after the commit; or the commit is lost.
FAULTS: tuple[Fault, ...] = ("drop_answer", "drop")

THREAD = {"metadata": {"graph_id": "pair"}}
STEP = {"values": {"done": ["edited"]}, "as_node": "first"}

#: What a request answers, and how often its change is there.
Outcome = tuple[httpx.Response, int]


class Client:
    """Asks a server whose database goes away at the next COMMIT, if a fault is armed."""

    def __init__(self, http: httpx.AsyncClient, proxy: Proxy) -> None:
        self._http = http
        self._proxy = proxy
        self._fault: Fault | None = None

    def arm(self, fault: Fault) -> None:
        self._fault = fault

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        return await self._http.request(method, path, json=body, **more)

    async def ask_disturbed(
        self, method: str, path: str, body: Any = None, *, commits: int = 1, **more: Any
    ) -> httpx.Response:
        """The answer to a request whose first commits meet the fault. Reads commit, too."""
        assert self._fault is not None
        met = [self._proxy.next_commit(self._fault, locked=True) for _ in range(commits)]
        answer = await self.ask(method, path, body, **more)
        assert all(one.reached.is_set() for one in met)
        return answer

    async def made(self, path: str, body: Any) -> dict[str, Any]:
        answer = await self.ask("POST", path, body)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def listed(self, path: str, body: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.ask("POST", path, body)).json()
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(module_database: str, tmp_path_factory: Any) -> AsyncIterator[Client]:
    folder = tmp_path_factory.mktemp("lost_answers")
    manifest = write_manifest(folder, graphs={"pair": f"{GRAPHS / 'forms.py'}:pair"})
    # Only the requests commit: no worker, and no sweep meanwhile.
    more = {"worker": {"enabled": False, "sweep_seconds": 3600}}
    async with (
        proxied(module_database) as proxy,
        app_client(settings_for(proxy.url, manifest, **more)) as http,
    ):
        yield Client(http, proxy)


async def thread_with_id(client: Client) -> Outcome:
    thread_id = str(uuid4())
    answer = await client.ask_disturbed("POST", "/threads", {"thread_id": thread_id})
    return answer, len(await client.listed("/threads/search", {"ids": [thread_id]}))


async def thread_with_a_key(client: Client) -> Outcome:
    marker = {"made_by": str(uuid4())}
    key = {"Idempotency-Key": str(uuid4())}
    answer = await client.ask_disturbed("POST", "/threads", {"metadata": marker}, headers=key)
    return answer, len(await client.listed("/threads/search", {"metadata": marker}))


async def thread_with_supersteps(client: Client) -> Outcome:
    body = {**THREAD, "supersteps": [{"updates": [STEP]}]}
    answer = await client.ask_disturbed("POST", "/threads", body)
    state = (await client.ask("GET", f"/threads/{answer.json()['thread_id']}/state")).json()
    return answer, len(state["values"]["done"])


async def update_of_a_state(client: Client) -> Outcome:
    path = f"/threads/{(await client.made('/threads', THREAD))['thread_id']}"
    answer = await client.ask_disturbed("POST", f"{path}/state", STEP)
    return answer, len((await client.ask("GET", f"{path}/state")).json()["values"]["done"])


async def copy_of_a_thread(client: Client) -> Outcome:
    marker = {"copied": str(uuid4())}
    thread = await client.made("/threads", {"metadata": marker})
    answer = await client.ask_disturbed("POST", f"/threads/{thread['thread_id']}/copy")
    return answer, len(await client.listed("/threads/search", {"metadata": marker})) - 1


async def cancel_of_a_run(client: Client) -> Outcome:
    thread = await client.made("/threads", {})
    path = f"/threads/{thread['thread_id']}/runs"
    run = await client.made(path, {"assistant_id": "pair", "after_seconds": 600})
    answer = await client.ask_disturbed("POST", f"{path}/{run['run_id']}/cancel", commits=2)
    shown = (await client.ask("GET", f"{path}/{run['run_id']}")).json()
    return answer, int(shown["status"] == "interrupted")


async def cancel_of_many_runs(client: Client) -> Outcome:
    thread = await client.made("/threads", {})
    path = f"/threads/{thread['thread_id']}/runs"
    run = await client.made(path, {"assistant_id": "pair", "after_seconds": 600})
    body = {"thread_id": thread["thread_id"], "run_ids": [run["run_id"]]}
    answer = await client.ask_disturbed("POST", "/runs/cancel", body, commits=2)
    shown = (await client.ask("GET", f"{path}/{run['run_id']}")).json()
    return answer, int(shown["status"] == "interrupted")


async def new_assistant(client: Client) -> Outcome:
    marker = {"made_by": str(uuid4())}
    body = {"graph_id": "pair", "metadata": marker, "assistant_id": str(uuid4())}
    answer = await client.ask_disturbed("POST", "/assistants", body)
    return answer, len(await client.listed("/assistants/search", {"metadata": marker}))


async def update_of_an_assistant(client: Client) -> Outcome:
    made = await client.made("/assistants", {"graph_id": "pair"})
    path = f"/assistants/{made['assistant_id']}"
    answer = await client.ask_disturbed("PATCH", path, {"name": "renamed"})
    versions = await client.listed(f"{path}/versions", {})
    return answer, sum(one["name"] == "renamed" for one in versions)


async def latest_version_of_an_assistant(client: Client) -> Outcome:
    made = await client.made("/assistants", {"graph_id": "pair", "name": "first"})
    path = f"/assistants/{made['assistant_id']}"
    await client.ask("PATCH", path, {"name": "second"})
    answer = await client.ask_disturbed("POST", f"{path}/latest", {"version": 1})
    return answer, int((await client.ask("GET", path)).json()["name"] == "first")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    "change",
    [
        thread_with_id,
        thread_with_a_key,
        thread_with_supersteps,
        update_of_a_state,
        copy_of_a_thread,
        cancel_of_a_run,
        cancel_of_many_runs,
        new_assistant,
        update_of_an_assistant,
        latest_version_of_an_assistant,
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_change_whose_commit_is_cut_is_made_once(
    client: Client, change: Callable[[Client], Awaitable[Outcome]], fault: Fault
):
    client.arm(fault)
    answer, times = await change(client)
    assert (answer.is_success, times) == (True, 1), answer.text
