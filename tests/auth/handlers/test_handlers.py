"""The registry, the filters and the memory of handlers, without a server."""

import asyncio
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import pytest
from langgraph_sdk import Auth

from headrace.auth.filters import WrongFilter, compiled, with_filter
from headrace.auth.handler_cache import HandlerCache
from headrace.auth.handler_errors import DeniedByHandler, HandlerFailed, HandlerTooSlow
from headrace.auth.handlers import Handlers, unknown_actions, unknown_parameters
from headrace.auth.principal import ANONYMOUS, Principal
from headrace.auth.run_callers import restored, stored_auth
from headrace.auth.user import User, user_fields, user_of
from headrace.errors import RequestError

ADA = Principal("ada", user={"identity": "ada", "org": "acme"}, permissions=("p",))


def scope(**more):
    headers = more.pop("headers", {})
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    base = {"type": "http", "path": "/threads/1", "method": "GET", "query_string": b"a=1&b=2&b=3"}
    return {**base, "headers": raw, **more}


async def test_the_most_specific_handler_decides():
    auth, asked = Auth(), []

    def handler(name):
        async def handle(ctx, value):
            asked.append((name, ctx.resource, ctx.action, ctx.user.identity, ctx.permissions))

        return handle

    auth.authenticate(handler("authenticate"))
    auth.on(handler("all"))
    auth.on(actions=["search"])(handler("searches"))
    auth.on.threads(handler("threads"))
    auth.on.threads.create_run(handler("runs"))
    auth.on.store.put(handler("put"))
    handlers = Handlers(auth)
    for resource, action in (
        ("threads", "create_run"),
        ("threads", "search"),
        ("crons", "search"),
        ("store", "put"),
        ("store", "get"),
    ):
        await handlers.authorize(ADA, resource, action, {})
    assert [one[0] for one in asked] == ["runs", "threads", "searches", "put", "all"]
    assert asked[0] == ("runs", "threads", "create_run", "ada", ["p"])
    assert handlers.unhandled == []


async def test_without_a_handler_everything_is_allowed_and_listed():
    auth = Auth()
    auth.on.threads(some_handler(None))
    handlers = Handlers(auth)
    assert await handlers.authorize(ADA, "crons", "delete", {}) is ADA
    assert "crons.delete" in handlers.unhandled
    assert not [one for one in handlers.unhandled if one.startswith("threads.")]
    assert Handlers().unhandled[0] == "threads.create"


def some_handler(result):
    async def handle(ctx, value):
        if isinstance(result, Exception):
            raise result
        return result

    return handle


async def authorized(result, resource="threads"):
    auth = Auth()
    auth.on(some_handler(result))
    return await Handlers(auth).authorize(
        ADA, resource, "read" if resource != "store" else "get", {}
    )


async def test_what_a_handler_may_return():
    result: Any
    for result in (None, True, {}):
        assert (await authorized(result)).filter == {}
    wanted = {"a": 1, "b": {"$eq": "x"}, "c": {"$contains": "y"}, "d": {"$contains": ["y", "z"]}}
    found = await authorized(wanted)
    assert found.filter == {"a": 1, "b": "x", "c": ["y"], "d": ["y", "z"]}
    assert (found.identity, found.user) == (ADA.identity, ADA.user)
    with pytest.raises(DeniedByHandler, match="Forbidden"):
        await authorized(False)
    wrong: Any
    for wrong in (
        "yes",
        1,
        {"a": {"$like": "x"}},
        {"a": {"$eq": 1, "$contains": 2}},
        {"a": {1, 2}},
        {"a": {"$contains": []}},
    ):
        with pytest.raises(HandlerFailed):
            await authorized(wrong)
    with pytest.raises(DeniedByHandler, match="namespace"):
        await authorized({"owner": "ada"}, "store")
    for failure, status in (
        (Auth.exceptions.HTTPException(status_code=404, detail="gone"), 404),
        (AssertionError("never"), 403),
        (RuntimeError("x"), 500),
        (Auth.exceptions.HTTPException(status_code=200), 500),
    ):
        with pytest.raises(RequestError) as refused:
            await authorized(failure)
        assert refused.value.status == status


def test_a_new_row_has_what_the_filter_wants():
    made = with_filter(
        {"owner": "bob", "members": ["x"]},
        replace(ADA, filter={"owner": "ada", "members": ["y"]}),
    )
    assert made == {"owner": "ada", "members": ["x", "y"]}
    assert with_filter({}, ADA) == {}
    with pytest.raises(WrongFilter):
        compiled({1: "x"})


async def test_a_sync_handler_does_not_hold_up_the_loop():
    auth = Auth()

    @auth.authenticate
    def authenticate(path, method, query_params, headers, authorization):
        time.sleep(0.2)
        asked = [path, method, query_params, headers[b"x-a"], authorization]
        return {"identity": "ada", "asked": asked[:3], "thread": threading.current_thread().name}

    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    ticking = asyncio.create_task(tick())
    found = await Handlers(auth).authenticate(scope(headers={"x-a": "1"}, root_path=""))
    ticking.cancel()
    assert ticks > 5
    assert found.user is not None
    assert found.user["thread"] != threading.current_thread().name
    assert found.user["asked"] == ["/threads/1", "GET", {"a": "1", "b": "3"}]
    assert (found.whole_tenant, found.identity) == (True, "ada")
    assert found.caller
    assert found.caller != "ada"


async def test_the_body_is_there_for_who_asks():
    auth = Auth()

    class Sent:
        async def body(self):
            return b"{}"

        async def json(self):
            return {"token": "t"}

    @auth.authenticate
    async def authenticate(body, request):
        return {"identity": "none" if body is None else body["token"], "same": request is sent}

    sent, handlers = Sent(), Handlers(auth)
    found = await handlers.authenticate(scope(headrace_request=sent))
    assert found.user is not None
    assert (found.identity, found.user["same"]) == ("t", True)
    assert (await handlers.authenticate(scope())).identity == "none"
    socket = scope(headrace_request=sent, type="websocket")
    assert (await handlers.authenticate(socket)).identity == "none"


async def test_users_are_remembered_by_the_headers_that_tell_them_apart():
    auth, calls = Auth(), []

    @auth.authenticate
    async def authenticate(authorization, path):
        calls.append(path)
        if authorization == "bad":
            raise Auth.exceptions.HTTPException(status_code=401)
        return authorization or "nobody"

    cache = HandlerCache(["Authorization", "X-Org"], seconds=60, most=2)
    handlers = Handlers(auth, cache=cache)

    async def ask(**headers):
        return (await handlers.authenticate(scope(headers=headers))).identity

    assert [await ask(authorization="a") for _ in range(3)] == ["a"] * 3
    assert len(calls) == 1
    await ask(authorization="a", **{"x-org": "1"})
    assert len(calls) == 2
    # A request without the headers is never remembered, nor is a refusal.
    assert [await ask(), await ask()] == ["nobody"] * 2
    for _ in range(2):
        with pytest.raises(Exception, match="Unauthorized"):
            await ask(authorization="bad")
    assert len(calls) == 6
    # The one that was used longest ago is forgotten.
    await ask(authorization="b")
    await ask(authorization="a")
    assert len(calls) == 8


async def test_what_is_done_to_a_user_does_not_reach_the_next_request():
    auth = Auth()

    @auth.authenticate
    async def authenticate(authorization):
        return {"identity": authorization, "roles": ["reader"], "org": {"admins": []}}

    @auth.on
    async def raise_oneself(ctx, value):
        ctx.user["roles"].append("admin")
        ctx.user["org"]["admins"].append("a")

    cache = HandlerCache(["authorization"], seconds=60, most=2)
    handlers = Handlers(auth, cache=cache)
    for _ in range(2):
        principal = await handlers.authenticate(scope(headers={"authorization": "a"}))
        user = user_of(principal)
        assert (user["roles"], user["org"]) == (["reader"], {"admins": []})
        # As a node of a graph may do it.
        user["roles"].append("owner")
        await handlers.authorize(principal, "threads", "read", {})


async def test_what_is_remembered_ends(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("headrace.auth.handler_cache.monotonic", lambda: now[0])
    cache = HandlerCache(["authorization"], seconds=5, most=10)
    key = cache.key_of([(b"authorization", b"x")])
    cache.put(key, ADA)
    now[0] = 4.9
    assert cache.get(key) is ADA
    now[0] = 5.0
    assert cache.get(key) is None


async def test_a_handler_may_not_take_for_ever():
    auth = Auth()

    @auth.authenticate
    async def authenticate(path):
        await asyncio.sleep(10)

    with pytest.raises(HandlerTooSlow):
        await Handlers(auth, seconds=0.05).authenticate(scope())


def test_what_a_user_may_be():
    @dataclass
    class Member:
        identity: str
        team: str

    class Starlettes:
        display_name = "Ada"
        identity = "ada"
        is_authenticated = True

    usual = {"identity": "ada", "is_authenticated": True, "display_name": "ada", "permissions": []}
    assert user_fields("ada") == usual
    assert user_fields({"identity": 7})["identity"] == "7"
    assert user_fields(Member("ada", "green")) == {**usual, "team": "green"}
    assert user_fields(Starlettes()) == {**usual, "display_name": "Ada"}
    for wrong in (
        None,
        7,
        object(),
        {},
        {"identity": ""},
        {"identity": "a\0"},
        {"identity": "x" * 501},
    ):
        with pytest.raises(Exception, match="it has returned"):
            user_fields(wrong)
    with pytest.raises(Exception, match="bytes"):
        user_fields({"identity": "a", "picture": "x" * 70_000})
    with pytest.raises(Exception, match="permissions"):
        user_fields({"identity": "a", "permissions": "all"})


def test_a_stored_caller_comes_back():
    for one in (ADA, ANONYMOUS, Principal("bob", whole_tenant=False, permissions=("read",))):
        back = restored(one.tenant, one.identity, one.caller, stored_auth(one))
        assert (back, back.user, back.permissions) == (one, one.user, one.permissions)
    assert stored_auth(ANONYMOUS) is None
    assert restored("t", "a", "", "damaged") == Principal("a", tenant="t")


def test_a_user_is_a_dict_with_attributes():
    user = User(user_fields({"identity": "ada", "org": "acme"}))
    assert (user.org, user["org"], user.identity, "org" in user) == ("acme", "acme", "ada", True)
    assert isinstance(user, Auth.types.BaseUser) or user.permissions == []
    with pytest.raises(AttributeError, match="identity"):
        _ = user.missing


def test_what_nobody_can_fill_is_found_at_start():
    def authenticate(token, path, extra=None, **more): ...

    assert unknown_parameters(authenticate) == ["token"]
    auth = Auth()
    auth.on(resources=["threads", "runs"], actions=["read", "reed"])(some_handler(None))
    assert sorted(unknown_actions(auth)) == ["runs.read", "runs.reed", "threads.reed"]
