"""Each operation of our OpenAPI, asked by those who may and by those who may not.

One live server has two tenants. Ada has one of everything, and a canary in each value of it. Bob is
another owner of her tenant, Eve has the name ``ada`` in another tenant. They, a stranger, and keys
that were revoked or have expired ask for Ada's things by their ids. What they get is written in the
row of the operation; and no answer to them has the canary. A new route without a row fails.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from headrace.auth.key_text import new_key
from headrace.auth.repository import create_key, revoke_keys
from tests.support.database import database_settings
from tests.support.doors import GRAPHS as DOOR_GRAPHS
from tests.support.live import GRAPHS, live_server

pytestmark = pytest.mark.acceptance

#: The graph with messages, and the graph that reads and writes the store.
TALKS, STORES = "speaks", "memo"
FOREIGN = ("bob", "eve")
STRANGERS = ("nobody", "expired", "revoked")


@dataclass(frozen=True)
class World:
    """What Ada has."""

    canary: str
    thread: str
    run: str
    assistant: str
    cron: str
    checkpoint: str

    def filled(self, value: Any) -> Any:
        """``value`` with the names of these fields in braces replaced."""
        if isinstance(value, dict):
            return {self.filled(key): self.filled(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.filled(one) for one in value]
        if isinstance(value, str):
            for name in ("canary", "thread", "run", "assistant", "cron", "checkpoint"):
                value = value.replace("{" + name + "}", getattr(self, name))
        return value


def omits(answer: httpx.Response) -> None:
    """The canary is looked for in each answer."""


def is_nothing(answer: httpx.Response) -> None:
    assert answer.json() in (0, None, [], {"pruned_count": 0}), answer.text


def is_refused_by_protocol(answer: httpx.Response) -> None:
    found = answer.json()
    assert "error" in found or found.get("type") == "error", answer.text


@dataclass(frozen=True)
class Row:
    """One operation.

    :ivar foreign: the statuses for other callers.
    :ivar own: the statuses for the owner.
    :ivar look: looks at the answer to another caller.
    :ivar spent: the owner's call uses up what it names: it gets a thread of its own.
    :ivar lasting: the answer does not end by itself.
    """

    body: Any = None
    foreign: tuple[int, ...] = (404,)
    own: tuple[int, ...] = (200,)
    query: dict[str, str] = field(default_factory=dict)
    path: dict[str, str] = field(default_factory=dict)
    look: Callable[[httpx.Response], None] = omits
    spent: bool = False
    lasting: bool = False


HELLO = {"messages": [{"role": "user", "content": "hi"}]}
RUN = {"assistant_id": TALKS, "input": HELLO}
ON_THREAD = {**RUN, "if_not_exists": "create"}
WITH_ASSISTANT = {"assistant_id": "{assistant}", "input": HELLO}
CRON = {"assistant_id": TALKS, "schedule": "0 0 1 1 *", "input": HELLO}
BY_CANARY = {"metadata": {"tag": "{canary}"}}
ENDED = (202, 204, 404)
LISTED = Row(BY_CANARY, foreign=(200,), look=omits)
COUNTED = Row(BY_CANARY, foreign=(200,), look=is_nothing)
PUBLIC = Row(foreign=(200,))
RPC = {"jsonrpc": "2.0", "id": 1}
MESSAGE = {"messageId": "m1", "role": "user", "parts": [{"kind": "text", "text": "hi"}]}

ROWS: dict[str, Row] = {
    # Assistants.
    "POST /assistants": Row(
        {"graph_id": TALKS, "assistant_id": "{assistant}", "if_exists": "do_nothing"},
        foreign=(409,),
    ),
    "POST /assistants/search": LISTED,
    "POST /assistants/count": COUNTED,
    "GET /assistants/{assistant_id}": Row(),
    "PATCH /assistants/{assistant_id}": Row({"name": "{canary} again"}),
    "DELETE /assistants/{assistant_id}": Row(own=(204,), spent=True),
    "POST /assistants/{assistant_id}/versions": Row({}),
    "POST /assistants/{assistant_id}/latest": Row({"version": 1}),
    "GET /assistants/{assistant_id}/graph": Row(),
    "GET /assistants/{assistant_id}/schemas": Row(),
    "GET /assistants/{assistant_id}/subgraphs": Row(),
    "GET /assistants/{assistant_id}/subgraphs/{namespace}": Row(path={"namespace": "x"}),
    # Threads.
    "POST /threads": Row({"thread_id": "{thread}", "if_exists": "do_nothing"}, foreign=(409,)),
    "POST /threads/search": LISTED,
    "POST /threads/count": COUNTED,
    "POST /threads/prune": Row(
        {"thread_ids": ["{thread}"], "strategy": "delete"},
        foreign=(200,),
        look=is_nothing,
        spent=True,
    ),
    "GET /threads/{thread_id}": Row(),
    "PATCH /threads/{thread_id}": Row({"metadata": {"more": 1}}),
    "DELETE /threads/{thread_id}": Row(own=(204,), spent=True),
    "POST /threads/{thread_id}/copy": Row(foreign=(409,)),
    "GET /threads/{thread_id}/state": Row(),
    "POST /threads/{thread_id}/state": Row({"values": HELLO}),
    "GET /threads/{thread_id}/state/{checkpoint_id}": Row(),
    "POST /threads/{thread_id}/state/checkpoint": Row(
        {"checkpoint": {"checkpoint_id": "{checkpoint}"}}
    ),
    "GET /threads/{thread_id}/history": Row(),
    "POST /threads/{thread_id}/history": Row({}),
    "GET /threads/{thread_id}/storage": Row(),
    "GET /threads/{thread_id}/stream": Row(lasting=True),
    "POST /threads/{thread_id}/commands": Row(
        {"id": 1, "method": "run.start", "params": RUN},
        foreign=(200,),
        look=is_refused_by_protocol,
    ),
    # To another caller, as a thread that does not exist yet.
    "POST /threads/{thread_id}/stream/events": Row(
        {"channels": ["values", "lifecycle"], "since": 0}, foreign=(200,), lasting=True
    ),
    # Runs.
    "POST /threads/{thread_id}/runs": Row(ON_THREAD),
    "POST /threads/{thread_id}/runs/wait": Row(ON_THREAD),
    "POST /threads/{thread_id}/runs/stream": Row(ON_THREAD),
    "POST /runs": Row(WITH_ASSISTANT),
    "POST /runs/wait": Row(WITH_ASSISTANT),
    "POST /runs/stream": Row(WITH_ASSISTANT),
    "POST /runs/batch": Row([WITH_ASSISTANT]),
    "POST /runs/cancel": Row({"thread_id": "{thread}", "run_ids": ["{run}"]}, own=ENDED),
    "GET /threads/{thread_id}/runs": Row(),
    "GET /threads/{thread_id}/runs/{run_id}": Row(),
    "DELETE /threads/{thread_id}/runs/{run_id}": Row(own=(204,), spent=True),
    "POST /threads/{thread_id}/runs/{run_id}/cancel": Row(own=ENDED),
    "GET /threads/{thread_id}/runs/{run_id}/join": Row(),
    "GET /threads/{thread_id}/runs/{run_id}/stream": Row(),
    "GET /threads/{thread_id}/runs/{run_id}/timeline": Row(),
    "GET /runs/{run_id}/join": Row(),
    "GET /runs/{run_id}/stream": Row(),
    # Crons.
    "POST /runs/crons": Row({**CRON, "assistant_id": "{assistant}"}),
    "POST /threads/{thread_id}/runs/crons": Row(CRON),
    "POST /runs/crons/search": LISTED,
    "POST /runs/crons/count": COUNTED,
    "GET /runs/crons/{cron_id}": Row(),
    "PATCH /runs/crons/{cron_id}": Row({"enabled": False}),
    "DELETE /runs/crons/{cron_id}": Row(own=(204,), spent=True),
    # The store: each caller has its own.
    "PUT /store/items": Row(
        {"namespace": ["notes", "ada"], "key": "k", "value": {"of": "another"}},
        foreign=(204,),
        own=(204,),
        spent=True,
    ),
    "GET /store/items": Row(
        query={"namespace": "diary.{canary}", "key": "k"}, foreign=(200,), look=is_nothing
    ),
    "DELETE /store/items": Row(
        {"namespace": ["diary", "{canary}"], "key": "k"}, foreign=(204,), own=(204,), spent=True
    ),
    "POST /store/items/search": Row({"namespace_prefix": []}, foreign=(200,)),
    "POST /store/namespaces": Row({}, foreign=(200,)),
    # Chat and the doors.
    "POST /chat": Row({"message": "hi", "thread_id": "{thread}"}),
    "POST /chat/stream": Row({"message": "hi", "thread_id": "{thread}"}),
    "POST /v1/chat/completions": Row(
        {
            "model": TALKS,
            "messages": HELLO["messages"],
            "metadata": {"thread_id": "{thread}"},
        }
    ),
    "POST /v1/responses": Row(
        {"model": TALKS, "input": "hi", "previous_response_id": "resp_{run}"}, own=(200, 409)
    ),
    "GET /v1/models": PUBLIC,
    "GET /v1/models/{model}": Row(path={"model": "{assistant}"}),
    "POST /mcp": Row(
        {
            **RPC,
            "method": "tools/call",
            "params": {"name": "{assistant}", "arguments": HELLO},
        },
        foreign=(200, 400, 404),
        look=is_refused_by_protocol,
    ),
    "POST /a2a/{assistant_id}": Row(
        {**RPC, "method": "message/send", "params": {"message": MESSAGE}},
        foreign=(200, 400, 404),
        look=is_refused_by_protocol,
    ),
    "GET /a2a/{assistant_id}/.well-known/agent-card.json": Row(),
    "GET /.well-known/agent-card.json": Row(query={"assistant_id": "{assistant}"}),
}

#: They tell nothing of anybody, and ask for no key.
OPEN = {"/ok", "/info", "/livez", "/readyz", "/startupz", "/health", "/metrics"}


class Site:
    """The server, its callers, and what Ada has."""

    def __init__(self, url: str, keys: dict[str, str]) -> None:
        self.url = url
        self.keys = keys
        self.world = self.new_world()

    def ask(
        self, who: str, method: str, path: str, *, lasting: bool = False, **more: Any
    ) -> httpx.Response:
        headers = {**more.pop("headers", {})}
        if who in self.keys:
            headers["x-api-key"] = self.keys[who]
        with httpx.Client(base_url=self.url, headers=headers, timeout=60) as client:
            if not lasting:
                return client.request(method, path, **more)
            with client.stream(method, path, **more) as answer:
                read = b""
                try:
                    for piece in answer.iter_raw():
                        read += piece
                        if len(read) > 100_000:
                            break
                except httpx.ReadTimeout:
                    pass
                return httpx.Response(answer.status_code, content=read)

    def made(self, who: str, method: str, path: str, **more: Any) -> Any:
        answer = self.ask(who, method, path, **more)
        assert answer.status_code < 300, f"{path}: {answer.text}"
        return answer.json() if answer.content else None

    def new_world(self) -> World:
        """One of everything."""
        canary = f"canary{uuid4().hex}"
        tagged = {"metadata": {"tag": canary}}
        thread = self.made("ada", "POST", "/threads", json=tagged)["thread_id"]
        said = {"messages": [{"role": "user", "content": canary}]}
        run = {"assistant_id": TALKS, "input": said}
        self.made("ada", "POST", f"/threads/{thread}/runs/wait", json=run)
        (stored,) = self.made("ada", "GET", f"/threads/{thread}/runs")
        state = self.made("ada", "GET", f"/threads/{thread}/state")
        assistant = self.made(
            "ada", "POST", "/assistants", json={"graph_id": TALKS, "name": canary, **tagged}
        )
        cron = self.made("ada", "POST", "/runs/crons", json={**CRON, "input": said, **tagged})
        item = {"namespace": ["diary", canary], "key": "k", "value": {"text": canary}}
        self.made("ada", "PUT", "/store/items", json=item)
        return World(
            canary,
            thread,
            stored["run_id"],
            assistant["assistant_id"],
            cron["cron_id"],
            state["checkpoint"]["checkpoint_id"],
        )


@pytest.fixture(scope="module")
def site(module_database, tmp_path_factory) -> Iterator[Site]:
    settings, keys = database_settings(module_database), {}
    now = datetime.now(UTC)
    for who, tenant, owner in [
        ("ada", "acme", "ada"),
        ("bob", "acme", "bob"),
        ("eve", "globex", "ada"),
        ("expired", "acme", "ada"),
        ("revoked", "acme", "ada"),
    ]:
        key = new_key()
        expires_at = now - timedelta(hours=1) if who == "expired" else None
        create_key(
            settings,
            key,
            name=who,
            tenant=tenant,
            owner=owner,
            scopes=("read", "write"),
            expires_at=expires_at,
        )
        keys[who] = key.text
        if who == "revoked":
            revoke_keys(settings, [key.prefix])
    folder = tmp_path_factory.mktemp("matrix")
    config = folder / "langgraph.json"
    graphs = {TALKS: f"{DOOR_GRAPHS}:{TALKS}", STORES: f"{GRAPHS.with_name('graphs.py')}:{STORES}"}
    config.write_text(json.dumps({"graphs": graphs}))
    with live_server(
        folder,
        module_database,
        config=config,
        processes=1,
        HEADRACE_SERVER__DOORS="openai,mcp,a2a",
        HEADRACE_AUTH__MODE="required",
        HEADRACE_CHAT_GRAPH=TALKS,
    ) as server:
        yield Site(server.url, keys)


def described(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = site.ask("ada", "GET", "/openapi.json").json()
    return found


def operations(site: Site) -> set[str]:
    return {
        f"{method.upper()} {path}"
        for path, methods in described(site)["paths"].items()
        for method in methods
        if path not in OPEN
    }


def test_each_operation_has_a_row(site):
    assert operations(site) == ROWS.keys()


def called(site: Site, world: World, operation: str, row: Row, who: str) -> httpx.Response:
    method, path = operation.split(" ", 1)
    named = {
        "thread_id": world.thread,
        "run_id": world.run,
        "assistant_id": world.assistant,
        "cron_id": world.cron,
        "checkpoint_id": world.checkpoint,
        **world.filled(row.path),
    }
    path = re.sub(r"{(\w+)}", lambda found: named[found[1]], path)
    more: dict[str, Any] = {"params": world.filled(row.query)}
    if row.body is not None:
        more["json"] = world.filled(row.body)
    if row.lasting:
        more["timeout"] = httpx.Timeout(60, read=1)
    return site.ask(who, method, path, lasting=row.lasting, **more)


@pytest.mark.parametrize("operation", ROWS)
def test_an_operation_is_for_the_owner_alone(site, operation):
    row = ROWS[operation]
    world = site.new_world() if row.spent else site.world
    for who in STRANGERS:
        answer = called(site, world, operation, replace(row, lasting=False), who)
        assert answer.status_code == 401, f"{who}: {answer.text}"
        assert world.canary not in answer.text
    for who in FOREIGN:
        answer = called(site, world, operation, row, who)
        assert answer.status_code in row.foreign, f"{who}: {answer.text}"
        assert _without_what_was_sent(answer, row, world).count(world.canary) == 0
        row.look(answer)
    answer = called(site, world, operation, row, "ada")
    assert answer.status_code in row.own, answer.text


def _without_what_was_sent(answer: httpx.Response, row: Row, world: World) -> str:
    """A refusal may repeat what it refuses."""
    sent = json.dumps(world.filled(row.body)) + json.dumps(world.filled(row.query))
    return "" if answer.status_code >= 400 and world.canary in sent else answer.text


def test_what_ada_has_is_as_it_was(site):
    """After all that others have tried, before and behind the API."""
    world = site.new_world()
    before = _rows(site, world)
    for operation, row in ROWS.items():
        for who in FOREIGN:
            if not row.lasting:
                called(site, world, operation, row, who)
    assert _rows(site, world) == before


def _rows(site: Site, world: World) -> list[Any]:
    return [
        site.made("ada", "GET", path)
        for path in (
            f"/threads/{world.thread}",
            f"/threads/{world.thread}/history",
            f"/threads/{world.thread}/runs",
            f"/assistants/{world.assistant}",
            f"/runs/crons/{world.cron}",
            f"/store/items?namespace=diary.{world.canary}&key=k",
        )
    ]


# The holes that advisories of such servers tell of, beyond the rows.


def test_one_name_is_a_conversation_of_each_caller(site):
    answers = {}
    for who in ("ada", "bob", "eve"):
        for text in (f"{who} says", "again"):
            body = {"message": text, "thread_id": "tea"}
            answers[who] = site.made(who, "POST", "/chat", json=body)
    assert len({answer["thread_id"] for answer in answers.values()}) == 3
    for who, answer in answers.items():
        said = json.dumps(answer["messages"])
        assert f"{who} says" in said
        assert sum(f"{other} says" in said for other in answers) == 1
        # The conversation can be named by its id as well.
        by_id = {"message": "more", "thread_id": answer["thread_id"]}
        more = site.made(who, "POST", "/chat", json=by_id)
        assert more["thread_id"] == answer["thread_id"]
        assert len(more["messages"]) > len(answer["messages"])


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
def test_who_speaks_for_another_is_refused(site, path):
    body = {"message": "hi", "user_id": "bob"}
    answer = site.ask("ada", "POST", path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (403, "not_this_user")
    assert site.ask("ada", "POST", path, json={**body, "user_id": "ada"}).status_code == 200


def test_one_key_of_two_callers_makes_two_things(site):
    headers = {"Idempotency-Key": uuid4().hex}
    made = [
        site.made(who, "POST", "/threads", json={}, headers=headers)["thread_id"]
        for who in ("ada", "bob", "eve", "ada")
    ]
    assert len(set(made)) == 3
    assert made[3] == made[0]


def test_no_patch_gives_a_thread_to_another(site):
    world = site.world
    body = {"metadata": {"owner": "bob", "tenant": "globex"}, "owner": "bob", "tenant": "globex"}
    site.ask("ada", "PATCH", f"/threads/{world.thread}", json=body)
    assert site.ask("ada", "GET", f"/threads/{world.thread}").status_code == 200
    for who in FOREIGN:
        assert site.ask(who, "GET", f"/threads/{world.thread}").status_code == 404


def test_a_run_on_an_own_thread_starts_from_no_checkpoint_of_another(site):
    world = site.world
    own = site.made("bob", "POST", "/threads", json={})["thread_id"]
    for named in (
        {"checkpoint_id": world.checkpoint},
        {"checkpoint": {"checkpoint_id": world.checkpoint}},
        {"checkpoint": {"thread_id": world.thread, "checkpoint_id": world.checkpoint}},
        {"config": {"configurable": {"thread_id": world.thread}}},
        {"config": {"configurable": {"checkpoint_id": world.checkpoint}}},
        {"config": {"configurable": {"checkpoint_ns": "", "thread_id": world.thread}}},
    ):
        answer = site.ask("bob", "POST", f"/threads/{own}/runs/wait", json={**RUN, **named})
        assert answer.status_code in (404, 422), answer.text
        assert world.canary not in answer.text
    for asked in ({"checkpoint_id": world.checkpoint}, {"thread_id": world.thread}):
        answer = site.ask(
            "bob", "POST", f"/threads/{own}/state/checkpoint", json={"checkpoint": asked}
        )
        assert world.canary not in answer.text


def test_a_graph_sees_the_store_of_its_caller(site, module_database):
    for who in ("ada", "bob", "eve", "ada"):
        run = {"assistant_id": STORES, "input": {"topic": f"{who}s topic"}}
        answer = site.ask(who, "POST", "/runs/wait", json=run)
        assert answer.status_code == 200, answer.text
        for other in {"ada", "bob", "eve"} - {who}:
            assert f"{other}s topic" not in answer.text
    with psycopg.connect(module_database) as database:
        rows = database.execute("SELECT DISTINCT split_part(prefix, '.', 1) FROM store").fetchall()
    assert rows == [("__headrace__",)]
