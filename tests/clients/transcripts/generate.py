"""Makes the fixtures beside this file from recorded exchanges: `python generate.py TRANSCRIPTS.md`.

Kept are facts: request, status, headers that matter, the shape of the JSON (keys and types) and the
sequence of events. An id that a later request names becomes a symbol such as ``<12>``, so that a
replay can put its own in; other ids, times and texts are left out.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

HERE = Path(__file__).parent

#: Crons, the third protocol, auth, webhooks and what was not sent by a plain request stay out.
CHAPTERS = {
    "0": "system",
    "1": "assistants",
    "2": "threads",
    "3": "wait",
    "4": "stream_modes",
    "5": "resumable",
    "6": "background",
    "7": "multitask",
    "8": "interrupts",
    "9": "state",
    "10": "context",
    "11": "store",
    "13": "thread_stream",
    "14": "plain_messages",
    "15": "cancelled",
    "16": "join_stream",
    "17": "thread_stream_modes",
    "18": "options",
    "25": "odd_routes",
    "27": "subgraphs",
}
_OUT_OF_SCOPE = re.compile(r"/mcp|/a2a|/\.well-known|/metrics|webhook")

_HEADERS = {
    "location", "content-location", "content-type", "cache-control", "x-accel-buffering",
    "x-pagination-total", "x-pagination-next",
}  # fmt: skip
_REQUEST_HEADERS = {"last-event-id", "prefer"}

#: Texts of these keys are words of the API, not content.
_WORDS = {"status", "type", "multitask_strategy", "graph_id", "source", "error", "durability"}

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_ID = re.compile(rf"{_UUID.pattern}|\b[0-9a-f]{{32}}\b|\b\d{{13}}-\d+\b")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
#: Made from the graph's name: the same on every server.
_GRAPHS = ["agent", "chat", "hitl", "boom", "slow", "nested", "nested_hitl", "ctx", "tooler"]
_FIRST_ASSISTANTS = {
    str(uuid5(UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8"), name)) for name in _GRAPHS
}

Exchange = dict[str, Any]


def blocks(text: str) -> Iterator[tuple[str, str, str]]:
    """(chapter, title with note, what was sent and received)."""
    for part in re.split(r"(?m)^## ", text)[1:]:
        chapter = part.split(".", 1)[0]
        if chapter not in CHAPTERS:
            continue
        for block in re.split(r"(?m)^### ", part)[1:]:
            title, _, rest = block.partition("\n")
            note, fence, wire = rest.partition("```http\n")
            if fence:
                yield chapter, f"{title} {note.strip()}".strip(), wire


def head_and_body(text: str) -> tuple[str, dict[str, str], str]:
    head, _, body = text.partition("\n\n")
    first, *lines = head.splitlines()
    headers = dict(line.split(": ", 1) for line in lines if ": " in line)
    return first, {name.lower(): value for name, value in headers.items()}, body.strip()


def exchange(title: str, wire: str) -> Exchange | None:
    sent, _, received = wire.partition("HTTP/1.1 ")
    request, request_headers, body = head_and_body(sent)
    method, path = request.split(" ", 1)
    if _OUT_OF_SCOPE.search(path + body):
        return None
    first, headers, answer = head_and_body(received.rsplit("\n```", 1)[0])
    made: Exchange = {"title": title, "method": method, "path": path}
    kept = {name: value for name, value in request_headers.items() if name in _REQUEST_HEADERS}
    if kept:
        made["request_headers"] = kept
    if body:
        try:
            made["body"] = json.loads(body)
        except ValueError:
            made["raw_body"] = body
    made["status"] = int(first.split()[0])
    made["headers"] = {name: value for name, value in headers.items() if name in _HEADERS}
    tail = wire.rsplit("\n```", 1)[1]
    if "client closed early: True" in tail:
        made["left_early"] = True
    if "\n…[" in answer and "text/event-stream" in headers["content-type"]:
        made["left_early"] = True  # the recording is cut: what follows is not known
        answer = answer.split("\n…[")[0].rsplit("\n\n", 1)[0]
    if headers.get("content-type", "").startswith("text/event-stream"):
        made["events"] = list(events(answer))
    elif answer:
        made["json"] = document(answer)
    return made


def events(text: str) -> Iterator[list[Any]]:
    """[name, id or null, data] of each."""
    for frame in re.split(r"\n\n+", text):
        fields = dict(line.split(": ", 1) for line in frame.splitlines() if ": " in line)
        if fields.get("event"):
            yield [fields["event"], fields.get("id"), document(fields.get("data", ""))]


def document(text: str) -> Any:
    """JSON; of one that the recording cut off, what surely came before."""
    try:
        return json.loads(text)
    except ValueError:
        return mended(text)


def mended(text: str) -> Any:
    """A cut list keeps its whole elements; anything else cut is unknown, as text is."""
    text = text.split("\n…[")[0]
    cut = text.rfind("\n },")
    if text.startswith("[\n") and cut > 0:
        return [*json.loads(text[: cut + 3] + "\n]"), "<cut>"]
    return "<cut>" if text[:1] in ("{", "[") else "<text>"


def shape(value: Any, named: dict[str, str], key: str = "") -> Any:
    if isinstance(value, dict):
        return {symbols(name, named): shape(one, named, name) for name, one in value.items()}
    if isinstance(value, list):
        return [shape(one, named, key) for one in value]
    if isinstance(value, str):
        return text_shape(value, named, key)
    if value is None:
        return "null"
    return "bool" if isinstance(value, bool) else "number"


def text_shape(value: str, named: dict[str, str], key: str) -> str:
    if value in ("<cut>", "<text>"):
        return value
    if value in named:
        return named[value]
    if _ID.fullmatch(value):
        return value if value in _FIRST_ASSISTANTS else "id"
    if _TIME.match(value):
        return "time"
    return f"={value}" if key in _WORDS and " " not in value else "str"


def symbols(text: str, named: dict[str, str]) -> str:
    """``text`` with symbols for ids that requests name, and ``id`` for others."""
    return _ID.sub(
        lambda found: named.get(found[0]) or (found[0] if found[0] in _FIRST_ASSISTANTS else "id"),
        text,
    )


def in_request(value: Any, named: dict[str, str]) -> Any:
    return json.loads(symbols(json.dumps(value), named))


def abstract(one: Exchange, named: dict[str, str]) -> Exchange:
    made = dict(one)
    for field in ("title", "path", "request_headers", "body", "headers"):
        if field in made:
            made[field] = in_request(made[field], named)
    if "json" in made:
        made["json"] = shape(made["json"], named)
    if "events" in made:
        made["events"] = [
            [symbols(name, named), text_shape(number, named, "") if number else None,
             shape(data, named)]
            for name, number, data in made["events"]
        ]  # fmt: skip
    return made


def requested_ids(exchanges: list[Exchange]) -> dict[str, str]:
    named: dict[str, str] = {}
    for one in exchanges:
        sent = json.dumps([one["path"], one.get("request_headers"), one.get("body")])
        for found in _ID.findall(sent):
            if found not in _FIRST_ASSISTANTS:
                named.setdefault(found, f"<{len(named) + 1}>")
    return named


def written(exchanges: list[Exchange]) -> str:
    """A line per field, and per event."""
    parts = []
    for one in exchanges:
        lines = []
        for name, value in one.items():
            if name == "events" and value:
                inner = ",\n   ".join(json.dumps(event) for event in value)
                lines.append(f'  "events": [\n   {inner}]')
            else:
                lines.append(f"  {json.dumps(name)}: {json.dumps(value)}")
        parts.append(" {\n" + ",\n".join(lines) + "\n }")
    return "[\n" + ",\n".join(parts) + "\n]\n"


def main() -> None:
    found: dict[str, list[Exchange]] = {chapter: [] for chapter in CHAPTERS}
    for chapter, title, wire in blocks(Path(sys.argv[1]).read_text()):
        one = exchange(title, wire)
        if one is not None:
            found[chapter].append(one)
    named = requested_ids([one for exchanges in found.values() for one in exchanges])
    for chapter, exchanges in found.items():
        path = HERE / f"{int(chapter):02}_{CHAPTERS[chapter]}.json"
        path.write_text(written([abstract(one, named) for one in exchanges]))
    print(f"{sum(map(len, found.values()))} exchanges, {len(named)} ids")


if __name__ == "__main__":
    main()
