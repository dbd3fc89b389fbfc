"""Answers where no route was: 404 and 405 in the form of every other refusal."""

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from headrace.edge.responses import json_response


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = str(error.detail).lower().replace(" ", "_")
    response = json_response(
        {"detail": error.detail, "code": code}, headers=dict(error.headers or {})
    )
    response.status_code = error.status_code
    return response


def add_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(HTTPException, _http_error)
