"""Request bodies at the door: bounded, strict JSON, nothing that Postgres cannot store."""

from typing import Any

import orjson
from fastapi import Request

from headrace.errors import InvalidRequest, MalformedJSON, PayloadTooLarge

#: orjson writes at most 254 levels; this leaves room for what graphs wrap around a value.
MAX_DEPTH = 128


class JSONRequest(Request):
    """A request whose ``json()`` refuses what could not be stored or sent back."""

    max_body_bytes: int = 8 * 1024 * 1024

    async def body(self) -> bytes:
        """The whole body.

        :raises PayloadTooLarge: as soon as more than ``max_body_bytes`` are announced or arrive.
        """
        if hasattr(self, "_body"):
            return self._body
        announced = self.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > self.max_body_bytes:
            raise self._too_large()
        chunks: list[bytes] = []
        received = 0
        async for chunk in self.stream():
            received += len(chunk)
            if received > self.max_body_bytes:
                raise self._too_large()
            chunks.append(chunk)
        self._body = b"".join(chunks)
        return self._body

    async def json(self) -> Any:
        body = await self.body()
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise MalformedJSON(f"Invalid JSON in request body: {error}") from None
        if problem := _unstorable(value, has_nul=b"\\u0000" in body):
            raise InvalidRequest(problem)
        return value

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"The request body is larger than {self.max_body_bytes} bytes"
            " (setting server.max_body_bytes)."
        )


def _unstorable(value: Any, *, has_nul: bool) -> str | None:
    """What is wrong with the value, or None."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            return f"The request body is nested more than {MAX_DEPTH} levels deep."
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
                if has_nul and any("\0" in key for key in item):
                    return _NUL
            elif isinstance(item, list):
                below.extend(item)
            elif has_nul and isinstance(item, str) and "\0" in item:
                return _NUL
        level = below
    return None


_NUL = "The request body holds a NUL character (\\u0000), which Postgres cannot store; remove it."
