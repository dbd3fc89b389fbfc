"""Handlers of ``auth``, and a graph that tells who called it.

A token is ``tok-NAME``. Alice and Bob see their own rows, Carol those that she is a member of, and
``teller`` may do nothing: the refusal tells what was asked. ``stamper`` has no filter for what it
creates. ``leaver`` may do nothing once it sends ``x-left``: ``all``, or only what its new ``team``
may. ``changer`` sends with ``x-change`` what the handler of one action writes into its value.
"""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph_sdk import Auth
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

auth = Auth()


@dataclass
class Member:
    """A user of a class of one's own."""

    identity: str
    team: str
    permissions: tuple[str, ...] = ("read",)


def unauthorized(detail: str) -> Exception:
    return Auth.exceptions.HTTPException(status_code=401, detail=detail)


@auth.authenticate
async def authenticate(
    authorization: str | None,
    path: str,
    method: str,
    path_params: dict[str, str],
    query_params: dict[str, str],
    headers: dict[bytes, bytes],
) -> Any:
    if authorization is None:
        raise unauthorized("no token")
    name = authorization.removeprefix("Bearer tok-")
    if name == authorization:
        raise unauthorized("bad token")
    if name == "teapot":
        raise Auth.exceptions.HTTPException(
            status_code=418,
            detail="I am a teapot",
            headers={"x-tea": "green", "Content-Length": "1"},
        )
    if name == "broken":
        raise RuntimeError("the secret of the handler")
    if name == "nothing":
        return None
    if name == "assert":
        assert path == "/nowhere", "not here"
    if name == "slow":
        marks = Path(headers[b"x-marks"].decode())
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            marks.write_text("cancelled")  # noqa: ASYNC240 - a few bytes
            raise
    if name == "text":
        return "text"
    if name == "member":
        return Member("member", "green")
    if name == "changer":
        change = json.loads(headers.get(b"x-change", b"{}"))
        return {"identity": name, "change": change}
    if name == "echo":
        asked = {"path": path, "method": method, "ids": path_params, "query": query_params}
        return {"identity": "echo", "asked": asked}
    return {
        "identity": name,
        "display_name": name.title(),
        "permissions": ["threads:read", "threads:write"],
        "org": "acme",
        **({"left": headers.get(b"x-left", b"").decode()} if name == "leaver" else {}),
    }


def told(ctx: Auth.types.AuthContext, value: Any) -> None:
    """Refuse the teller with what was asked."""
    if ctx.user.identity == "teller":
        asked = {"action": f"{ctx.resource}.{ctx.action}", "value": value}
        raise Auth.exceptions.HTTPException(
            status_code=403, detail=json.dumps(asked, default=str), headers={"x-told": "yes"}
        )


def changed(ctx: Auth.types.AuthContext, value: Any) -> bool:
    """Whether the changer's handler is the one for this action; then it has written its change."""
    wanted = dict(ctx.user).get("change", {})
    if wanted.get("action") != f"{ctx.resource}.{ctx.action}":
        return False
    for path, part in wanted["parts"].items():
        *outer, last = path.split("/")
        target = value
        for name in outer:
            target = target[name]
        target[last] = part
    return True


@auth.on
async def own_rows(ctx: Auth.types.AuthContext, value: Any) -> Any:
    told(ctx, value)
    if changed(ctx, value):
        return None
    left = ctx.user["left"] if ctx.user.identity == "leaver" else ""
    if ctx.user.identity == "denied" or left == "all":
        return False
    if left == "team":
        return {"owner": "the team"}
    value.setdefault("metadata", {})["owner"] = ctx.user.identity
    if ctx.user.identity == "stamper" and ctx.action == "create":
        return None
    if ctx.user.identity == "hurried" and ctx.action == "create_run":
        value["multitask_strategy"] = "interrupt"
    return {"owner": ctx.user.identity}


@auth.on.threads.read
async def rows_to_read(ctx: Auth.types.AuthContext, value: Any) -> Any:
    told(ctx, value)
    if changed(ctx, value):
        return None
    if ctx.user.identity == "carol":
        return {"members": {"$contains": "carol"}}
    if ctx.user.identity == "broken-on":
        return {"owner": {"$like": "a%"}}
    return {"owner": {"$eq": ctx.user.identity}}


@auth.on.assistants
async def any_assistant(ctx: Auth.types.AuthContext, value: Any) -> Any:
    told(ctx, value)
    if changed(ctx, value):
        return None
    if ctx.action in ("create", "update"):
        value["metadata"]["owner"] = ctx.user.identity
    if ctx.user.identity == "stamper" and ctx.action == "create":
        return None
    return {"owner": ctx.user.identity}


@auth.on.store
async def own_namespace(ctx: Auth.types.AuthContext, value: Any) -> Any:
    told(ctx, value)
    if changed(ctx, value):
        return None
    if ctx.user.identity == "filters":
        return {"owner": "filters"}
    value["namespace"] = (ctx.user.identity, *value["namespace"])
    return None


@auth.on.store.delete
async def own_deletion(ctx: Auth.types.AuthContext, value: Any) -> Any:
    told(ctx, value)
    if changed(ctx, value):
        return None
    assert ctx.user.identity != "keeper", "keepers keep"
    value["namespace"] = (ctx.user.identity, *value["namespace"])
    return True


async def tell(state: MessagesState, config: RunnableConfig, runtime: Runtime) -> Any:
    configurable = config["configurable"]
    user = configurable.get("langgraph_auth_user")
    server_user = runtime.server_info.user if runtime.server_info else None
    seen = {
        "user": None if user is None else dict(user),
        "by_attribute": getattr(user, "identity", None),
        "by_item": None if user is None else user["identity"],
        "team": getattr(user, "team", None) or getattr(user, "org", None),
        "of_runtime": None if server_user is None else server_user.display_name,
        "user_id": configurable.get("user_id"),
        "auth_user_id": configurable.get("langgraph_auth_user_id"),
        "permissions": configurable.get("langgraph_auth_permissions"),
        "others": sorted(key for key in configurable if key.startswith("langgraph_auth_")),
        "context": runtime.context,
    }
    if state["messages"] and state["messages"][-1].content == "wait":
        await asyncio.sleep(10)
    return {"messages": [AIMessage(json.dumps(seen))]}


builder: Any = StateGraph(MessagesState)
builder.add_node("tell", tell)
builder.add_edge(START, "tell")
builder.add_edge("tell", END)
agent = builder


async def me(request: Any) -> JSONResponse:
    body = (await request.body()).decode() if request.method == "POST" else ""
    user = request.user
    return JSONResponse(
        {
            "identity": user.identity,
            "org": user.get("org"),
            "scopes": request.auth.scopes,
            "body": body,
        }
    )


app = Starlette(routes=[Route("/me", me, methods=["GET", "POST"])])
