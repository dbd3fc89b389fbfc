"""Secrets that callers send, wherever they stand, are in no metric, no probe and no refusal."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pydantic import SecretStr

from tests.support.door import Door, open_door

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: As makers of keys write them, with words of headrace's own around some.
SECRETS = [
    "sk-canary0123456789abcdefABCDEF0123456789abcdef01234567",
    "sk-ant-api03-canary-0123456789abcdefABCDEF-0123456789",
    "sk-proj-canary0123456789_0123456789abcdef",
    "lsv2_pt_canary0123456789abcdef0123456789_0123456789",
    "ghp_canary0123456789abcdefABCDEF012345",
    "github_pat_canary0123456789_0123456789abcdefABCDEF",
    "glpat-canary0123456789abcdef",
    "xoxb-canary-123456789012-0123456789abcdef",
    "AKIACANARY0123456789",
    "AIzaCanary0123456789abcdefABCDEF0123456",
    "eyJjYW5hcnkiOjF9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlMDEyMzQ1Njc4OQ",
    "canary-" + "0123456789abcdef" * 4,
    "canary/with+base64==",
    "canary with blanks",
    "c4n4ry",
] + [f"canary-{number:02d}-of-many" for number in range(20)]
KEY = "the-key-of-this-server-0123456789"


@pytest_asyncio.fixture(loop_scope="module")
async def closed_door(module_database: str, tmp_path: Path) -> AsyncIterator[Door]:
    async with open_door(module_database, tmp_path, api_keys=SecretStr(KEY)) as opened:
        yield opened


def places(secret: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Requests with the secret somewhere: method, path, and what else."""
    key = {"x-api-key": KEY}
    run = {"assistant_id": "none", "input": {}}
    quoted = secret.replace(" ", "%20").replace("/", "%2F").replace("+", "%2B")
    yield "GET", "/threads/x", {"headers": {"x-api-key": secret}}
    yield "GET", "/threads/x", {"headers": {**key, "authorization": f"Bearer {secret}"}}
    yield "GET", "/threads/x", {"headers": {**key, "cookie": f"session={secret}"}}
    yield "GET", "/threads/x", {"headers": {**key, "x-forwarded-user": secret}}
    yield "GET", f"/nowhere?api_key={quoted}", {"headers": key}
    yield "GET", f"/threads/x/state?token={quoted}", {"headers": key}
    yield "POST", "/runs/wait", {"headers": {**key, "idempotency-key": secret}, "json": run}
    configured = {"configurable": {"api_key": secret}}
    yield "POST", "/runs/wait", {"headers": key, "json": {**run, "config": configured}}
    yield "POST", "/runs/wait", {"headers": key, "json": {**run, "metadata": {"token": secret}}}
    refused = {**run, "config": {"configurable": {"password": secret}}, "stream_mode": "odd"}
    yield "POST", "/runs/wait", {"headers": key, "json": refused}
    yield "POST", "/threads", {"headers": key, "json": {"metadata": {"a": secret}, "ttl": "x"}}
    yield "POST", "/threads", {"headers": key, "content": f'{{"password": "{secret}", '.encode()}
    yield (
        "PUT",
        "/store/items",
        {
            "headers": key,
            "json": {"namespace": [], "key": "k", "value": {"secret": secret}},
        },
    )


async def test_no_secret_leaves_by_another_door(closed_door: Door):
    http = closed_door.http
    refusals = 0
    for number, secret in enumerate(SECRETS):
        # Each stands in three places, and in each place stand several.
        all_places = list(places(secret))
        for method, path, more in (all_places[(number + k) % len(all_places)] for k in (0, 4, 9)):
            answer = await http.request(method, path, **more)
            assert answer.status_code < 500, (path, answer.text)
            if answer.status_code >= 400:
                refusals += 1
                assert secret not in answer.text, (path, answer.text)
                assert KEY not in answer.text
    assert refusals >= 2 * len(SECRETS)
    for path in ("/metrics", "/metrics?format=json", "/health", "/readyz", "/livez", "/info"):
        said = (await http.get(path)).text
        found = [secret for secret in [*SECRETS, KEY] if secret in said]
        assert found == [], path
