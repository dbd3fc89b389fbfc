"""The body of a call: the run as clients read it, its result, and what is left out if it is too
large.

The fields are those of LangGraph's server. ``webhook_version`` and ``interrupts`` are ours.
"""

from datetime import UTC, datetime
from typing import Any

import orjson

#: Raised when a field changes its meaning or goes away; new fields do not raise it.
VERSION = 1


def payload(run: bytes, result: bytes | None, *, max_bytes: int, now: datetime) -> bytes:
    """The body, of at most ``max_bytes`` as long as the run without its arguments has no more.

    :param run: the run, a JSON object.
    :param result: what it has left, a JSON object with ``values``; None: nothing is known of it.
    :param now: when it is sent.
    """
    sent = orjson.dumps(
        {"webhook_version": VERSION, "webhook_sent_at": now.astimezone(UTC).isoformat()}
    )
    whole = _joined(run, sent, result or b'{"values":null}')
    if len(whole) <= max_bytes:
        return whole
    left_out = _result_without_values(f"the body would have {len(whole)} bytes")
    smaller = _joined(run, sent, left_out)
    if len(smaller) <= max_bytes:
        return smaller
    fields: dict[str, Any] = orjson.loads(run)
    fields |= {"kwargs": {}, "kwargs_omitted": "they are too large"}
    return _joined(orjson.dumps(fields), sent, left_out)


def result_json(values: bytes | None, interrupts: bytes | None, *, max_bytes: int) -> bytes:
    """What a run has left, for the ``result`` of :func:`payload`.

    :param values: the values as JSON; None: they are too large.
    :param interrupts: what the thread waits for, as a JSON list; None: nothing.
    """
    members = []
    if values is None or len(values) > max_bytes:
        members.append(b'"values":null,"values_omitted":"they are too large"')
    else:
        members.append(b'"values":' + values)
    if interrupts is not None:
        too_many = len(interrupts) > max_bytes
        members.append(b'"interrupts":' + (b"[]" if too_many else interrupts))
    return b"{" + b",".join(members) + b"}"


def _result_without_values(why: str) -> bytes:
    return orjson.dumps({"values": None, "values_omitted": why})


def _joined(*objects: bytes) -> bytes:
    """One JSON object with the members of several, none of which is empty."""
    return b"{" + b",".join(one.strip()[1:-1] for one in objects) + b"}"
