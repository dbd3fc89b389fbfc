"""Streams of numbered tokens: none may be missing, doubled, out of order or another stream's."""

import uuid
from collections.abc import Sequence
from typing import Any

from loadtests.common.api import Api, require
from loadtests.common.events import Event

_TOKENS = 20
_PAUSE_SECONDS = 0.01
#: ``metadata`` and some tokens.
_CUT_AFTER = 6


def _body(word: str) -> dict[str, Any]:
    return {
        "assistant_id": "tokens",
        "input": {"word": word, "count": _TOKENS, "pause_seconds": _PAUSE_SECONDS},
        "stream_mode": ["custom", "values"],
    }


def _tokens(events: Sequence[Event]) -> list[str]:
    return [one.data for one in events if one.name == "custom"]


def stream(api: Api) -> None:
    """A run without a thread, streamed to its end."""
    word = uuid.uuid4().hex

    def check(events: Sequence[Event]) -> None:
        require(_tokens(events), [f"{word}-{number}" for number in range(_TOKENS)], "tokens")
        values = [one.data for one in events if one.name == "values"]
        require(values[-1]["written"], _TOKENS, "tokens written")

    api.stream("/runs/stream", _body(word), name="/runs/stream tokens", check=check)


def rejoin(api: Api) -> None:
    """A client that hangs up, and joins again with the last event that it has seen."""
    thread_id, word = api.new_thread(), uuid.uuid4().hex
    wanted = [f"{word}-{number}" for number in range(_TOKENS)]

    def begun(events: Sequence[Event]) -> None:
        seen = _tokens(events)
        require(seen, wanted[: len(seen)], "tokens")

    seen = api.stream(
        f"/threads/{thread_id}/runs/stream",
        {**_body(word), "stream_resumable": True, "on_disconnect": "continue"},
        name="/runs/stream cut",
        check=begun,
        until=_CUT_AFTER,
    )
    run_id = seen[0].data["run_id"]
    before = _tokens(seen)
    api.stream(
        f"/threads/{thread_id}/runs/{run_id}/stream",
        None,
        name="/runs/{id}/stream",
        method="GET",
        last_event_id=seen[-1].id,
        check=lambda events: require(_tokens(events), wanted[len(before) :], "tokens after a cut"),
    )
