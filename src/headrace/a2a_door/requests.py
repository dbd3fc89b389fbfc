"""What A2A's calls ask, checked: messages, their configuration, and ids of tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.a2a_door.tasks import Part
from headrace.doors.json_rpc import INVALID_PARAMS, RpcError
from headrace.ids import canonical_uuid

TASK_NOT_FOUND = -32001
TASK_NOT_CANCELABLE = -32002
NO_PUSH_NOTIFICATIONS = -32003
UNSUPPORTED_OPERATION = -32004
UNSUPPORTED_CONTENT = -32005
UNSUPPORTED_VERSION = -32009

_REASONS = {
    TASK_NOT_FOUND: "TASK_NOT_FOUND",
    TASK_NOT_CANCELABLE: "TASK_NOT_CANCELABLE",
    NO_PUSH_NOTIFICATIONS: "PUSH_NOTIFICATION_NOT_SUPPORTED",
    UNSUPPORTED_OPERATION: "UNSUPPORTED_OPERATION",
    UNSUPPORTED_CONTENT: "CONTENT_TYPE_NOT_SUPPORTED",
    UNSUPPORTED_VERSION: "VERSION_NOT_SUPPORTED",
}

_MOST_PARTS = 1000
_MOST_ID = 255
_ROLES = ("user", "ROLE_USER")
_OUTPUTS = ("text/plain", "application/json", "text/*", "application/*", "*/*", "text", "*")


def a2a_error(number: int, message: str) -> RpcError:
    """An error of A2A itself, with the details that its newest version wants."""
    details = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": _REASONS[number],
        "domain": "a2a-protocol.org",
    }
    return RpcError(number, message, [details])


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message of the user.

    :ivar waits: the caller wants the answer when the task has ended, or needs an answer.
    """

    message_id: str
    parts: Sequence[Part]
    context_id: str | None
    task_id: str | None
    waits: bool
    history_length: int | None


def sent_message(params: Mapping[str, Any]) -> SentMessage:
    """
    :raises RpcError: the message cannot be given to a graph.
    """
    message = params.get("message")
    if not isinstance(message, Mapping):
        raise RpcError(INVALID_PARAMS, "params.message: send a message")
    if message.get("role") not in _ROLES:
        raise RpcError(INVALID_PARAMS, "params.message.role: send the role of the user")
    message_id = _id(message, "messageId", "params.message")
    if message_id is None:
        raise RpcError(INVALID_PARAMS, "params.message.messageId: send an id of your own")
    configuration = params.get("configuration")
    if not isinstance(configuration, Mapping | None):
        raise RpcError(INVALID_PARAMS, "params.configuration: send an object")
    configuration = configuration or {}
    _refuse_configuration(configuration)
    return SentMessage(
        message_id,
        _parts(message.get("parts")),
        _id(message, "contextId", "params.message"),
        _id(message, "taskId", "params.message"),
        waits=_yes_or_no(configuration, "blocking") is not False
        and not _yes_or_no(configuration, "returnImmediately"),
        history_length=history_length(configuration),
    )


def _refuse_configuration(configuration: Mapping[str, Any]) -> None:
    if configuration.get("pushNotificationConfig") or configuration.get(
        "taskPushNotificationConfig"
    ):
        raise a2a_error(
            NO_PUSH_NOTIFICATIONS, "This agent sends no push notifications; stream the task."
        )
    modes = configuration.get("acceptedOutputModes")
    if modes and not (isinstance(modes, list) and any(one in _OUTPUTS for one in modes)):
        raise a2a_error(
            UNSUPPORTED_CONTENT, "This agent answers with text/plain or application/json."
        )


def _yes_or_no(configuration: Mapping[str, Any], name: str) -> bool | None:
    given = configuration.get(name)
    if not isinstance(given, bool | None):
        raise RpcError(INVALID_PARAMS, f"params.configuration.{name}: send true or false")
    return given


def history_length(given: Mapping[str, Any]) -> int | None:
    """How many messages the caller wants.

    :raises RpcError: it is no number of messages.
    """
    length = given.get("historyLength")
    if length is None:
        return None
    if not isinstance(length, int) or isinstance(length, bool) or length < 0:
        raise RpcError(INVALID_PARAMS, "historyLength: send a whole number from 0 on")
    return length


def task_id_of(params: Mapping[str, Any]) -> str:
    """The canonical id of the task that a call is about.

    :raises RpcError: there can be no such task.
    """
    given = params.get("id")
    if not isinstance(given, str) or not given:
        raise RpcError(INVALID_PARAMS, "params.id: send the id of a task")
    found = canonical_uuid(given)
    if found is None:
        raise task_not_found(given)
    return found


def task_not_found(task_id: str) -> RpcError:
    return a2a_error(TASK_NOT_FOUND, f"Task {task_id[:_MOST_ID]} not found")


def _id(message: Mapping[str, Any], name: str, where: str) -> str | None:
    given = message.get(name)
    if given is None or given == "":
        return None
    if not isinstance(given, str) or len(given) > _MOST_ID or "/" in given or given in (".", ".."):
        raise RpcError(
            INVALID_PARAMS, f"{where}.{name}: send at most {_MOST_ID} characters without a slash"
        )
    return given


def _parts(given: Any) -> list[Part]:
    if not isinstance(given, list) or not 1 <= len(given) <= _MOST_PARTS:
        raise RpcError(INVALID_PARAMS, f"params.message.parts: send 1 to {_MOST_PARTS} parts")
    return [_part(f"params.message.parts.{place}", one) for place, one in enumerate(given)]


def _part(where: str, part: Any) -> Part:
    if not isinstance(part, Mapping):
        raise RpcError(INVALID_PARAMS, f"{where}: send an object")
    if any(part.get(name) is not None for name in ("file", "url", "raw")):
        raise a2a_error(UNSUPPORTED_CONTENT, f"{where}: this agent takes text and data, no files")
    if isinstance(part.get("text"), str):
        if part.get("data") is not None:
            raise RpcError(INVALID_PARAMS, f"{where}: send text and data as two parts")
        return str(part["text"])
    if "data" in part:
        data: Part = part["data"]
        return data
    raise RpcError(INVALID_PARAMS, f"{where}: send a text or data")
