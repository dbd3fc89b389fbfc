"""The arguments of an endpoint, taken from a request by a plan that is made once.

FastAPI finds out anew for each request what an endpoint needs. A plan is made from FastAPI's own
description of the endpoint, and validates with FastAPI's own fields. So arguments and errors are
those of FastAPI. An endpoint that needs more than a plan knows has none, and FastAPI calls it.

This module alone knows how FastAPI describes an endpoint.
"""

import inspect
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Any, cast

from fastapi import Response, params
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import (
    request_body_to_args,
    request_params_to_args,
    solve_dependencies,
)
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException

from headrace.edge.requests import JSONRequest
from headrace.errors import RequestError

#: What FastAPI takes for the body of a request without one.
_NO_BODY: Any = inspect.signature(solve_dependencies).parameters["body"].default
#: What an endpoint may need and a plan does not know. Some releases of FastAPI lack some of these.
_UNKNOWN = (
    "background_tasks_param_name",
    "concurrency",
    "cookie_params",
    "http_connection_param_name",
    "own_oauth_scopes",
    "parent_oauth_scopes",
    "response_param_name",
    "security_requirements",
    "security_scopes",
    "security_scopes_param_name",
    "websocket_param_name",
)
#: Types of values that nobody can change: many requests may share them.
_FIXED = (str, int, float, bool, type(None))

Call = Callable[..., Coroutine[Any, Any, Any]]
Errors = list[Any]


@dataclass(frozen=True, slots=True)
class _Need:
    """A dependency of an endpoint, or the endpoint itself: a function and what it needs.

    :ivar name: the argument that its result is for; None: the result is for no argument.
    :ivar without_query: the arguments if the request has no query; None: see ``query``.
    """

    name: str | None
    call: Call
    use_cache: bool
    needs: tuple["_Need", ...]
    path: Sequence[Any]
    query: Sequence[Any]
    without_query: dict[str, Any] | None
    headers: Sequence[Any]
    request: str | None

    async def arguments(
        self, request: JSONRequest, known: dict[Call, Any], errors: Errors
    ) -> dict[str, Any]:
        """The arguments of the function, by name.

        :param known: results of dependencies, for other dependencies that need them too.
        :param errors: gets what is invalid.
        """
        values: dict[str, Any] = {}
        for need in self.needs:
            before = len(errors)
            given = await need.arguments(request, known, errors)
            if len(errors) > before:
                continue
            if need.use_cache and need.call in known:
                result = known[need.call]
            else:
                result = known[need.call] = await need.call(**given)
            if need.name is not None:
                values[need.name] = result
        for field in self.path:
            value, wrong = field.validate(
                request.path_params[field.alias], values, loc=("path", field.alias)
            )
            if wrong:
                errors.extend(wrong)
            else:
                values[field.name] = value
        if self.without_query is not None and not request.scope["query_string"]:
            values.update(self.without_query)
        else:
            _take(request_params_to_args(self.query, request.query_params), values, errors)
        if self.headers:
            _take(request_params_to_args(self.headers, request.headers), values, errors)
        if self.request is not None:
            values[self.request] = request
        return values


class Plan:
    """How to call one endpoint.

    :param body: the field of the body; None: the endpoint takes none.
    """

    def __init__(self, endpoint: _Need, body: Any | None) -> None:
        self._endpoint = endpoint
        self._body = body

    async def answer(self, request: JSONRequest) -> Response:
        """The response of the endpoint.

        :raises RequestValidationError: a part of the request is invalid.
        :raises RequestError: as the endpoint.
        :raises HTTPException: the client has left before the end of the body.
        """
        body = await _body_of(request) if self._body is not None else _NO_BODY
        errors: Errors = []
        values = await self._endpoint.arguments(request, {}, errors)
        if self._body is not None:
            await self._add_body(body, values, errors)
        if errors:
            raise RequestValidationError(errors)
        return cast("Response", await self._endpoint.call(**values))

    async def _add_body(self, body: Any, values: dict[str, Any], errors: Errors) -> None:
        field: Any = self._body
        if body is _NO_BODY or body is None:
            found = await request_body_to_args(
                body_fields=[field], received_body=body, embed_body_fields=False
            )
        else:
            value, wrong = field.validate(body, values, loc=("body",))
            found = {field.name: value}, wrong or []
        _take(found, values, errors)


def plan_for(route: APIRoute) -> Plan | None:
    """The plan for the endpoint of a route; None: FastAPI must call it."""
    described = route.dependant
    bodies = described.body_params
    returned = inspect.signature(route.endpoint).return_annotation
    if not (isinstance(returned, type) and issubclass(returned, Response)):
        return None
    if len(bodies) > 1 or any(_is_unusual(field.field_info) for field in bodies):
        return None
    endpoint = _need(described)
    return None if endpoint is None else Plan(endpoint, bodies[0] if bodies else None)


def _need(described: Dependant) -> _Need | None:
    """None if a plan does not know what it needs."""
    call = described.call
    fields = [*described.path_params, *described.query_params, *described.header_params]
    needs = [_need(one) for one in described.dependencies]
    if (
        call is None
        or not inspect.iscoroutinefunction(call)
        or any(getattr(described, name, None) for name in _UNKNOWN)
        or any(_is_model(field.field_info.annotation) for field in fields)
        or any(one.body_params for one in described.dependencies)
        or None in needs
    ):
        return None
    return _Need(
        name=described.name,
        call=call,
        use_cache=described.use_cache,
        needs=tuple(need for need in needs if need is not None),
        path=described.path_params,
        query=described.query_params,
        without_query=_without_query(described.query_params),
        headers=described.header_params,
        request=described.request_param_name,
    )


def _without_query(fields: Sequence[Any]) -> dict[str, Any] | None:
    values, errors = request_params_to_args(fields, QueryParams())
    fixed = all(type(value) in _FIXED for value in values.values())
    return values if fixed and not errors else None


def _is_unusual(body: Any) -> bool:
    """Whether a body is a form, or one field of an object."""
    return isinstance(body, params.Form) or bool(getattr(body, "embed", None))


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _take(found: tuple[dict[str, Any], Errors], values: dict[str, Any], errors: Errors) -> None:
    values.update(found[0])
    errors.extend(found[1])


async def _body_of(request: JSONRequest) -> Any:
    try:
        body = await request.body()
        if not body:
            return _NO_BODY
        return await request.json() if _is_json(request.headers.get("content-type")) else body
    except RequestError:
        raise
    except Exception as error:
        # FastAPI says this too, for example when the client has left.
        raise HTTPException(400, "There was an error parsing the body") from error


def _is_json(content_type: str | None) -> bool:
    """Whether a body of this type is read as JSON. A body without a type is."""
    if not content_type or content_type == "application/json":
        return True
    message = Message()
    message["content-type"] = content_type
    kind = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (
        kind == "json" or kind.endswith("+json")
    )
