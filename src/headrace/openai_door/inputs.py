"""Messages for the graph, from messages of a chat completion or items of a response."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from headrace.errors import InvalidRequest
from headrace.ids import uuid7
from headrace.openai_door.schemas import CompletionMessage

GraphMessage = dict[str, Any]

#: The id of the message that ``instructions`` makes: later instructions take its place.
INSTRUCTIONS_ID = "instructions"

#: Types of items that are a message, and of parts that are text.
_ROLES = ("user", "assistant", "system", "developer")
_TEXTS = ("input_text", "output_text", "text")


def of_completion(messages: Sequence[CompletionMessage]) -> list[GraphMessage]:
    """Messages as graphs take them, each with an id.

    :raises InvalidRequest: a message is not of a form that graphs take.
    """
    return [_with_id(_of_message(place, one)) for place, one in enumerate(messages)]


def of_response(given: str | Sequence[Mapping[str, Any]], instructions: str | None) -> Any:
    """As :func:`of_completion`, for the input of a response.

    :raises InvalidRequest: an item is of a type that graphs do not take.
    """
    made: list[GraphMessage] = []
    if instructions:
        made.append({"role": "system", "content": instructions, "id": INSTRUCTIONS_ID})
    if isinstance(given, str):
        return [*made, _with_id({"role": "user", "content": given})]
    for place, item in enumerate(given):
        _add_item(made, f"input.{place}", item)
    return made


def _with_id(message: GraphMessage) -> GraphMessage:
    return {**message, "id": f"in-{uuid7()}"}


def _of_message(place: int, message: CompletionMessage) -> GraphMessage:
    where = f"messages.{place}"
    for name, value in (message.model_extra or {}).items():
        if name in ("audio", "function_call") and value is not None:
            raise InvalidRequest(f"{where}.{name}: graphs take text and tool_calls; leave it out")
    made: GraphMessage = {"role": message.role, "content": message.content or ""}
    if message.name is not None:
        made["name"] = message.name
    if message.role == "tool":
        if message.tool_call_id is None:
            raise InvalidRequest(f"{where}.tool_call_id: send the id of the call that it answers")
        made["tool_call_id"] = message.tool_call_id
    elif message.tool_call_id is not None:
        raise InvalidRequest(f"{where}.tool_call_id: only a message of the tool answers a call")
    if message.tool_calls:
        if message.role != "assistant":
            raise InvalidRequest(f"{where}.tool_calls: only the assistant calls tools")
        made["tool_calls"] = [
            _call(f"{where}.tool_calls", one.id, one.function.name, one.function.arguments)
            for one in message.tool_calls
        ]
    elif not message.content and not _may_be_empty(message):
        raise InvalidRequest(f"{where}.content: send what the {message.role} says")
    return made


def _may_be_empty(message: CompletionMessage) -> bool:
    # Many tools bring an empty text.
    return message.role == "assistant" or (message.role == "tool" and message.content is not None)


def _call(where: str, call_id: str, name: str, arguments: str) -> dict[str, Any]:
    try:
        values = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        values = None
    if not isinstance(values, dict):
        raise InvalidRequest(f"{where}: the arguments of '{name}' are no text of a JSON object")
    return {"id": call_id, "name": name, "args": values, "type": "tool_call"}


def _add_item(made: list[GraphMessage], where: str, item: Mapping[str, Any]) -> None:
    kind = item.get("type") or ("message" if "role" in item else None)
    if kind == "message":
        made.append(_with_id(_of_message_item(where, item)))
    elif kind == "function_call":
        call = _call(
            where, *(_text_of(item, where, key) for key in ("call_id", "name", "arguments"))
        )
        if not made or made[-1]["role"] != "assistant":
            made.append(_with_id({"role": "assistant", "content": ""}))
        made[-1].setdefault("tool_calls", []).append(call)
    elif kind == "function_call_output":
        made.append(_with_id(_of_output(where, item)))
    else:
        raise InvalidRequest(
            f"{where}: items of type {kind!r} have no meaning for a graph; send messages,"
            " function_call and function_call_output"
        )


def _of_message_item(where: str, item: Mapping[str, Any]) -> GraphMessage:
    role = item.get("role")
    if role not in _ROLES:
        raise InvalidRequest(f"{where}.role: send one of {', '.join(_ROLES)}")
    return {"role": role, "content": _content(f"{where}.content", item.get("content"))}


def _of_output(where: str, item: Mapping[str, Any]) -> GraphMessage:
    return {
        "role": "tool",
        "tool_call_id": _text_of(item, where, "call_id"),
        "content": _content(f"{where}.output", item.get("output")),
    }


def _text_of(item: Mapping[str, Any], where: str, key: str) -> str:
    value = item.get(key)
    if not isinstance(value, str):
        raise InvalidRequest(f"{where}.{key}: send a text")
    return value


def _content(where: str, content: Any) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(f"{where}: send a text, or a list of parts")
    parts = [_part(f"{where}.{place}", part) for place, part in enumerate(content)]
    if all(part["type"] == "text" for part in parts):
        return _joined(parts)
    return parts


def _joined(parts: Iterable[Mapping[str, Any]]) -> str:
    return "".join(part["text"] for part in parts)


def _part(where: str, part: Any) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind in _TEXTS:
        return {"type": "text", "text": _text_of(part, where, "text")}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        detail = {"detail": part["detail"]} if isinstance(part.get("detail"), str) else {}
        return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
    raise InvalidRequest(f"{where}: send input_text, output_text, or input_image with image_url")
