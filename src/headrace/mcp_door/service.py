"""Assistants as tools of MCP: their list, their calls, and what a call has brought."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import structlog

from headrace.assistants.graph_service import GraphService
from headrace.assistants.schemas import AssistantSearch
from headrace.assistants.service import AssistantService
from headrace.auth.handlers import Handlers
from headrace.auth.principal import Principal
from headrace.chat.replies import interrupts_of
from headrace.db.tables import AssistantRow
from headrace.doors.callers import DoorCaller
from headrace.doors.json_rpc import INVALID_PARAMS, METHOD_NOT_FOUND, RpcCall, RpcError
from headrace.doors.replies import question_text, reply_in
from headrace.error_text import clipped
from headrace.errors import AssistantNotFound, InvalidRequest
from headrace.following.followed_run import FollowedRun
from headrace.graphs.registry import GraphRegistry
from headrace.ids import system_assistant_id
from headrace.json_text import json_text
from headrace.mcp_door.versions import HANDSHAKES, MODERN, negotiated
from headrace.queue.rows import RunOutcome
from headrace.runs.schemas import RunCreate
from headrace.runs.service import RunService

_log = structlog.stdlib.get_logger("headrace.mcp")

#: Tools of one page of the list.
_PAGE = 100
#: A name that is unknown is repeated up to this length.
_MAX_NAME_BYTES = 300
_CAPABILITIES = {"tools": {"listChanged": False}}
_ANY_INPUT: Mapping[str, Any] = {"type": "object"}

#: What the newest version wants in answers that a client may keep: do not.
UNKEPT = {"ttlMs": 0, "cacheScope": "private"}


class McpService:
    def __init__(
        self,
        runs: RunService,
        assistants: AssistantService,
        graphs: GraphService,
        registry: GraphRegistry,
        handlers: Handlers | None = None,
    ) -> None:
        self._handlers = handlers or Handlers()
        self.runs = runs
        self._assistants = assistants
        self._graphs = graphs
        self._graph_ids = frozenset(registry.ids())

    async def answer(self, principal: Principal, call: RpcCall) -> dict[str, Any]:
        """The result of any call but that of a tool.

        :raises RpcError: there is no such method, or its parameters are wrong.
        """
        if call.method == "initialize":
            return {
                "protocolVersion": negotiated(call.params),
                "capabilities": _CAPABILITIES,
                "serverInfo": server_info(),
            }
        if call.method == "server/discover":
            return {
                "supportedVersions": [*HANDSHAKES, MODERN],
                "capabilities": _CAPABILITIES,
                **UNKEPT,
            }
        if call.method == "ping":
            return {}
        if call.method == "tools/list":
            return await self._tools(principal, call.params.get("cursor"))
        raise RpcError(
            METHOD_NOT_FOUND,
            f"There is no method {clipped(call.method, _MAX_NAME_BYTES)!r} here: only tools.",
        )

    async def start(self, caller: DoorCaller, params: Mapping[str, Any]) -> FollowedRun:
        """Start the run of a tool, on a thread that goes with it.

        :raises RpcError: there is no such tool, or its arguments are no object.
        """
        name, arguments = params.get("name"), params.get("arguments")
        if not isinstance(name, str):
            raise RpcError(INVALID_PARAMS, "params.name: send the name of a tool")
        if not isinstance(arguments, Mapping | None):
            raise RpcError(INVALID_PARAMS, "params.arguments: send an object")
        try:
            user = await self._assistants.user(caller.principal, name)
            await self._assistants.get_for_run(user, name)
        except (AssistantNotFound, InvalidRequest):
            raise RpcError(
                INVALID_PARAMS,
                f"Unknown tool: {clipped(name, _MAX_NAME_BYTES)!r};"
                " tools/list has those there are.",
            ) from None
        configurable = caller.configurable(None)
        create = RunCreate(
            assistant_id=name,
            input=dict(arguments or {}),
            config={"configurable": configurable} if configurable else None,
        )
        return await self.runs.create(caller.principal, None, create, **caller.options())

    async def _tools(self, principal: Principal, cursor: Any) -> dict[str, Any]:
        if not isinstance(cursor, str | None) or (cursor and not cursor.isdecimal()):
            raise RpcError(INVALID_PARAMS, "params.cursor: send the nextCursor of the last page")
        offset = int(cursor[:9]) if cursor else 0
        names = {name: name for name in ("graph_id", "metadata", "limit", "offset")}
        principal, query = await self._handlers.authorize_body(
            principal,
            "assistants",
            "search",
            AssistantSearch(limit=_PAGE, offset=offset),
            names,
            {},
        )
        with self._assistants.reading() as reading:
            rows, more = await self._assistants.search(principal, query, reading)
        served = [row for row in rows if row.graph_id in self._graph_ids]
        tools = [await self._tool(row) for row in served]
        following = {"nextCursor": str(query.offset + len(rows))} if more else {}
        return {"tools": tools, **following, **UNKEPT}

    async def _tool(self, row: AssistantRow) -> dict[str, Any]:
        of_graph = row.assistant_id == system_assistant_id(row.graph_id)
        return {
            "name": row.graph_id if of_graph else str(row.assistant_id),
            "title": row.name,
            "description": row.description or f"Runs the graph '{row.graph_id}'.",
            "inputSchema": await self._input_schema(row),
        }

    async def _input_schema(self, row: AssistantRow) -> Mapping[str, Any]:
        try:
            found = (await self._graphs.schemas_of(row)).get("input_schema")
        except Exception:
            # A factory that makes a graph for each run may need the configuration of a run.
            _log.info("tool_not_described", graph_id=row.graph_id, exc_info=True)
            return _ANY_INPUT
        if not isinstance(found, Mapping) or found.get("type", "object") != "object":
            return _ANY_INPUT
        return {**found, "type": "object"}


def server_info() -> dict[str, str]:
    """Who answers."""
    return {"name": "headrace", "version": version("headrace")}


def tool_result(outcome: RunOutcome) -> dict[str, Any]:
    """What a tool has brought. A run that has failed is an error that a model can read."""
    if outcome.forgotten:
        return _failed("The run has ended and is gone, with its values.")
    if outcome.error is not None:
        return _failed(f"{outcome.error['error']}: {outcome.error['message']}")
    if questions := interrupts_of(outcome.values):
        asked = question_text(questions)
        return _failed(f"The graph waits for an answer, which no call of a tool can give: {asked}")
    values = outcome.values
    reply = reply_in(values, ())
    text = reply.text if reply is not None else None
    return {
        "content": _texts(text if text is not None else json_text(values).decode()),
        "structuredContent": values if isinstance(values, Mapping) else {"result": values},
        "isError": False,
    }


def _failed(message: str) -> dict[str, Any]:
    return {"content": _texts(message), "isError": True}


def _texts(text: str) -> Sequence[Mapping[str, str]]:
    return [{"type": "text", "text": text}]
