"""The agent card: what other agents read of an assistant before they call it."""

from typing import Any

from headrace.auth.api_keys import HEADER
from headrace.db.tables import AssistantRow

_MODES = ("text/plain", "application/json")


def agent_card(row: AssistantRow, url: str, *, needs_key: bool) -> dict[str, Any]:
    """The card, in the form of A2A 1.0 with the fields that clients of 0.3 read.

    :param url: the address of the assistant's endpoint.
    """
    described = row.description or f"Runs the graph '{row.graph_id}'."
    skill = {
        "id": row.graph_id,
        "name": row.name,
        "description": described,
        "tags": ["langgraph"],
    }
    card = {
        "name": row.name,
        "description": described,
        "version": str(row.version),
        "url": url,
        "preferredTransport": "JSONRPC",
        "protocolVersion": "0.3.0",
        "supportedInterfaces": [
            {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": protocol}
            for protocol in ("1.0", "0.3")
        ],
        "capabilities": {"streaming": True, "pushNotifications": False},
        "defaultInputModes": list(_MODES),
        "defaultOutputModes": list(_MODES),
        "skills": [skill],
    }
    if needs_key:
        scheme = {"apiKeySecurityScheme": {"location": "header", "name": HEADER}}
        card["securitySchemes"] = {"key": scheme}
        card["securityRequirements"] = [{"schemes": {"key": {"list": []}}}]
    return card
