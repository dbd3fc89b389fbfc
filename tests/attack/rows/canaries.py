"""Row 17: what is told to the server in confidence is told to nobody; and other small ones."""

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from tests.attack.attacker import Attacker

#: How secrets look; what is found by its form is masked wherever it stands.
_FORMS = (
    "api_key={}",
    "apikey: {}",
    "token={}",
    "access_token={}",
    "password={}",
    "Authorization: Bearer {}",
    "Bearer {}",
    "postgresql://user:{}@host:5432/name",
    "postgresql://user:with@sign{}@host/name",
    "https://user:{}@host/path?token={}",
    '{{"api_key": "{}"}}',
    "client_secret={}",
)
_FORGED = "forged-9d2f"


class _Canaries:
    """Secrets, each of its own, by where it was put."""

    def __init__(self) -> None:
        self.by_text: dict[str, str] = {}

    def new(self, place: str) -> str:
        text = f"canary{uuid4().hex}"
        self.by_text[text] = place
        return text

    def found_in(self, text: str) -> list[str]:
        return [place for canary, place in self.by_text.items() if canary in text]


async def plant(attacker: Attacker) -> None:
    canaries = _Canaries()
    refusals: list[tuple[str, str]] = []
    while True:
        for form in _FORMS:
            await _plant(attacker, form, canaries, refusals)
        await _forge(attacker)
        await _small_ones(attacker)
        if attacker.over:
            break
    await _look(attacker, canaries, refusals)


async def _plant(
    attacker: Attacker, form: str, canaries: _Canaries, refusals: list[tuple[str, str]]
) -> None:
    def secret(place: str) -> str:
        return (
            form.replace("{}", canaries.new(f"{place} as {form}"))
            .replace("{{", "{")
            .replace("}}", "}")
        )

    def keep(place: str, answer: Any) -> None:
        if answer is not None and answer.status_code >= 400:
            refusals.append((place, answer.text + str(dict(answer.headers))))

    asked: list[tuple[str, str, str, Any, dict[str, str]]] = [
        ("query", "GET", f"/threads/{uuid4()}", None, {}),
        ("x-api-key", "GET", "/threads/1", None, {"x-api-key": secret("x-api-key")}),
        ("authorization", "GET", "/threads/1", None, {"authorization": secret("authorization")}),
        ("cookie", "GET", "/threads/1/state", None, {"cookie": secret("cookie")}),
        ("request id", "GET", "/ok", None, {"x-request-id": secret("request id")}),
        ("user agent", "GET", "/ok", None, {"user-agent": secret("user agent")}),
        ("trace", "GET", "/ok", None, {"traceparent": secret("trace")}),
        ("wrong body", "POST", "/threads/search", {"limit": secret("wrong body")}, {}),
        (
            "configurable",
            "POST",
            "/runs/wait",
            {
                "assistant_id": "echo",
                "input": {},
                "config": {"configurable": {"k": secret("configurable")}},
            },
            {},
        ),
        (
            "state",
            "POST",
            "/runs/wait",
            {"assistant_id": "echo", "input": {"secret": secret("state")}},
            {},
        ),
        (
            "exception",
            "POST",
            "/runs/wait",
            {"assistant_id": "fails", "input": {"secret": secret("exception")}},
            {},
        ),
        ("metadata", "POST", "/threads", {"metadata": {"k": secret("metadata")}}, {}),
        ("no JSON", "POST", "/threads", f"{{{secret('no JSON')}".encode(), {}),
    ]
    for place, method, path, body, headers in asked:
        how: dict[str, Any] = {"headers": headers}
        if place == "query":
            how["params"] = {"api_key": secret("query"), "x": secret("query")}
        keep(place, await attacker.ask(method, path, body, **how))
    path = "/" + quote(secret("path"), safe="")
    keep("path", await attacker.ask("GET", path, client=attacker.stranger))


async def _forge(attacker: Attacker) -> None:
    """Lines that look like the server's own."""
    for text in (
        f'x\n{{"event":"{_FORGED}","level":"info"}}',
        f"x\r\n{_FORGED} [info] all is well",
        f"x\x1b[2K\x1b[1A{_FORGED}",
        f"x\u2028{_FORGED}\u2029{_FORGED}",
        f"x\x85{_FORGED}\x0b{_FORGED}",
    ):
        body = {"assistant_id": "fails", "input": {"secret": text}}
        await attacker.ask("POST", "/runs/wait", body)
        await attacker.ask("GET", "/ok", params={"x": text})
        await attacker.ask("POST", "/threads/search", {"limit": text}, allowed={422})


async def _small_ones(attacker: Attacker) -> None:
    thread = await attacker.thread()
    late = {"Last-Event-ID": "ffffffff-ffff-ffff-ffff-ffffffffffff:1"}
    path = f"/threads/{thread}/stream"
    await attacker.ask("GET", path, headers=late, allowed={422})
    for path in ("/threads/", "/runs/", "//evil.example/threads/", "/health/"):
        answer = await attacker.ask(
            "GET", path, headers={"host": "evil.example"}, client=attacker.stranger
        )
        location = "" if answer is None else answer.headers.get("location", "")
        attacker.tally.judge("evil" not in location, f"{path} leads to {location}")


async def _look(attacker: Attacker, canaries: _Canaries, refusals: list[tuple[str, str]]) -> None:
    log = await asyncio.to_thread(Path(attacker.address.log_file).read_text, errors="replace")
    health = f"http://127.0.0.1:{attacker.address.health_port}"
    told = {"log": log}
    for path in ("/metrics", "/health"):
        told[path] = (await attacker.stranger.get(health + path)).text
    for name, text in told.items():
        for place in canaries.found_in(text):
            attacker.tally.judge(False, f"{name} tells a secret of {place}")
        for key in (attacker.address.attacker_key, attacker.address.neighbour_key):
            attacker.tally.judge(key not in text, f"{name} tells an API key")
    for place, text in refusals:
        for found in canaries.found_in(text):
            attacker.tally.judge(False, f"a refusal ({place}) tells a secret of {found}")
    for line in log.split("\n"):
        try:
            forged = json.loads(line).get("event") == _FORGED
        except (ValueError, AttributeError):
            forged = _FORGED in line
        attacker.tally.judge(not forged, f"a forged line of the log: {line[:100]}")
    attacker.tally.notes.append(f"{len(canaries.by_text)} secrets, {len(refusals)} refusals")
