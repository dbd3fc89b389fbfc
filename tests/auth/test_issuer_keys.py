"""The issuer's keys over HTTP: rotation, an issuer that is down, and callers that make up a kid."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from headrace.admission_errors import IssuerUnavailable
from headrace.auth.issuer_keys import FetchedKeys, keys_of_set
from headrace.auth.tokens import IssuedTokens
from headrace.auth_settings import AuthSettings
from headrace.errors import Unauthenticated
from headrace.lifecycle import Tasks
from tests.support.issuer import AUDIENCE, ISSUER, JwksServer, jwk, jwks_server, token


@asynccontextmanager
async def fetched(server: JwksServer, **more: Any) -> AsyncIterator[IssuedTokens]:
    settings = AuthSettings(
        **{
            "jwt_issuer": ISSUER,
            "jwt_audience": AUDIENCE,
            "jwt_algorithms": "RS256,ES256",
            "jwt_jwks_url": server.url,
            "jwks_pause_seconds": 0.05,
            "jwks_timeout_seconds": 1,
            **more,
        }
    )
    tasks = Tasks()
    async with httpx.AsyncClient(timeout=1) as client:
        keys = FetchedKeys(settings, client)
        await keys.start(tasks)
        try:
            yield IssuedTokens(settings, keys)
        finally:
            await tasks.stop()


async def test_a_new_key_is_fetched_when_its_first_token_comes():
    with jwks_server(jwk("RS256", kid="old")) as server:
        async with fetched(server) as tokens:
            old = token(headers={"kid": "old"})
            new = token(number=1, headers={"kid": "new"})
            await tokens.principal(old)
            with pytest.raises(Unauthenticated, match="key that the issuer does not have"):
                await tokens.principal(new)
            server.keys = [jwk("RS256", 1, kid="new")]
            await asyncio.sleep(0.06)
            await asyncio.gather(*(tokens.principal(new) for _ in range(20)))
            # The old one is gone, also for tokens whose check was remembered.
            with pytest.raises(Unauthenticated):
                await tokens.principal(old)


async def test_callers_that_make_up_a_kid_cost_the_issuer_nothing():
    with jwks_server(jwk("RS256", kid="old")) as server:
        async with fetched(server, jwks_pause_seconds=60) as tokens:
            kids = ("../../etc/passwd", "http://127.0.0.1:1/x", "' OR 1=1 --", "x" * 500)
            made_up = [token(number=1, headers={"kid": kid, "jku": kid}) for kid in kids]
            for text in made_up * 5:
                with pytest.raises(Unauthenticated):
                    await tokens.principal(text)
            await tokens.principal(token(headers={"kid": "old"}))
            assert server.paths == ["/jwks.json"]


async def test_while_the_issuer_is_down_its_last_keys_are_used():
    with jwks_server(jwk("RS256", kid="a")) as server:
        async with fetched(server, jwks_refresh_seconds=0.05, jwt_remembered=0) as tokens:
            server.down = True
            known = token(headers={"kid": "a"})
            for _ in range(3):
                await asyncio.sleep(0.06)
                await tokens.principal(known)
            with pytest.raises(Unauthenticated):
                await tokens.principal(token(number=1, headers={"kid": "b"}))
            assert len(server.paths) > 2
        server.down = False
        short = {"jwks_refresh_seconds": 0.05, "jwks_away_seconds": 0.1, "jwt_remembered": 0}
        async with fetched(server, **short) as tokens:
            server.down = True
            await asyncio.sleep(0.4)
            with pytest.raises(IssuerUnavailable):
                await tokens.principal(known)


async def test_a_server_starts_while_the_issuer_is_down():
    with jwks_server(jwk("RS256", kid="a")) as server:
        server.down = True
        async with fetched(server) as tokens:
            text = token(headers={"kid": "a"})
            with pytest.raises(IssuerUnavailable) as refused:
                await tokens.principal(text)
            assert refused.value.status == 503
            server.down = False
            await asyncio.sleep(0.06)
            assert (await tokens.principal(text)).identity == "ada"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"keys": {}}',
        b'{"keys": []}',
        b'{"keys": [7, null, {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}]}',
        b"[" * 100_000,
        b'{"keys": [' + b" " * 600_000 + b"]}",
    ],
)
async def test_what_is_no_key_set_replaces_nothing(body):
    with jwks_server(jwk("RS256", kid="a")) as server:
        async with fetched(server, jwks_refresh_seconds=0.05, jwt_remembered=0) as tokens:
            server.body = body
            before = len(server.paths)
            while len(server.paths) < before + 2:
                await asyncio.sleep(0.02)
            await tokens.principal(token(headers={"kid": "a"}))


def test_keys_for_other_things_check_no_tokens():
    algorithms = ("RS256", "ES256")
    usual = jwk("RS256", kid="a")
    for unfit in (
        {**usual, "use": "enc"},
        {**usual, "key_ops": ["sign"]},
        {**usual, "alg": "RSA-OAEP"},
        {**usual, "alg": "HS256"},
        {**usual, "alg": "RS512"},
        {**usual, "kid": 7},
        {**usual, "n": "AQAB"},
        {**usual, "kty": "oct"},
        jwk("ES384"),
        jwk("EdDSA"),
    ):
        with pytest.raises(ValueError, match="none of its keys"):
            keys_of_set(_set(unfit), algorithms)
    (found,) = keys_of_set(_set(usual, jwk("EdDSA")), algorithms)
    assert (found.kid, set(found.algorithms)) == ("a", {"RS256"})


def _set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()
