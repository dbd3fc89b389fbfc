"""The forms of commands of the streaming protocol v3, and of the answers to them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from headrace.auth.handler_errors import RefusedByHandler
from headrace.errors import (
    AssistantNotFound,
    BadRequest,
    CheckpointNotFound,
    Forbidden,
    InvalidRequest,
    PayloadTooLarge,
    RequestError,
    ResumeRefused,
)

_FORBIDDEN = 403

#: The code of the protocol for each refusal of headrace. The first one that fits is taken.
_CODES: tuple[tuple[type[RequestError], str], ...] = (
    (ResumeRefused, "no_such_interrupt"),
    (CheckpointNotFound, "no_such_checkpoint"),
    (AssistantNotFound, "invalid_argument"),
    (Forbidden, "permission_denied"),
    (InvalidRequest, "invalid_argument"),
    (BadRequest, "invalid_argument"),
    (PayloadTooLarge, "invalid_argument"),
)


#: The commands that start a run.
_OF_RUNS = ("run.start", "input.respond")


class CommandRefused(Exception):
    """The command is not carried out.

    :param code: one of the protocol's.
    :param message: what to change.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Command:
    command_id: int
    method: str
    params: Mapping[str, Any]


def command_of(given: Any) -> Command:
    """:raises CommandRefused: it is no command."""
    command_id = given.get("id") if isinstance(given, Mapping) else None
    method = given.get("method") if isinstance(given, Mapping) else None
    if not _is_id(command_id):
        raise CommandRefused("invalid_argument", _NO_COMMAND)
    if not isinstance(method, str):
        raise CommandRefused("invalid_argument", _NO_COMMAND)
    params = given.get("params")
    if params is not None and not isinstance(params, Mapping):
        raise CommandRefused("invalid_argument", "params: send an object, or leave it out.")
    return Command(command_id, method, params or {})


def with_deadline(command: Command, seconds: float | None) -> Command:
    """The command with the deadline that the query of its request names.

    :raises CommandRefused: its parameters name another one.
    """
    if seconds is None:
        return command
    if command.method not in _OF_RUNS:
        raise CommandRefused(
            "invalid_argument",
            f"deadline_seconds: {' and '.join(_OF_RUNS)} take it, no other method",
        )
    if command.params.get("deadline_seconds") not in (None, seconds):
        raise CommandRefused(
            "invalid_argument", "deadline_seconds: body and query differ; send one of them"
        )
    return replace(command, params={**command.params, "deadline_seconds": seconds})


def id_of(given: Any) -> int | None:
    """The id of what is no command otherwise: the client finds the answer by it."""
    command_id = given.get("id") if isinstance(given, Mapping) else None
    return command_id if _is_id(command_id) else None


def _is_id(given: Any) -> TypeGuard[int]:
    return isinstance(given, int) and not isinstance(given, bool) and given >= 0


#: The id at the beginning of a command, with the digits that a number of JavaScript has at most.
_FIRST_ID = re.compile(r'\s{0,9}\{\s{0,9}"id"\s?:\s?(\d{1,16})\s?[,}]', re.ASCII)
_NO_COMMAND = "Protocol commands must include an integer id and string method."


def id_within(text: str) -> int | None:
    """The id of a command that cannot be read: clients write it first, and wait for its answer."""
    found = _FIRST_ID.match(text)
    return None if found is None else int(found[1])


def refusal(refused: CommandRefused, command_id: int | None) -> dict[str, Any]:
    """The answer to a command that is not carried out."""
    return {
        "type": "error",
        "id": command_id,
        "error": refused.code,
        "message": refused.message,
    }


def success(command: Command, result: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a command that is carried out."""
    return {
        "type": "success",
        "id": command.command_id,
        "result": result,
        "meta": {"applied_through_seq": 0},
    }


def code_of(error: RequestError) -> str:
    """The code of the protocol for a refusal of headrace."""
    if isinstance(error, RefusedByHandler) and error.status == _FORBIDDEN:
        return "permission_denied"
    return next((code for kind, code in _CODES if isinstance(error, kind)), "unknown_error")
