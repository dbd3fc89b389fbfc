"""Tokens: what opens, and a corpus of what must not."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest

from headrace.auth.issuer_keys import given_keys
from headrace.auth.tokens import IssuedTokens
from headrace.auth_settings import AuthSettings
from headrace.errors import Forbidden, StartupRefusal, Unauthenticated
from headrace.settings import Settings
from tests.support.issuer import AUDIENCE, ISSUER, claims, jwk, private_key, public_pem, token


def settings(kind: str = "RS256", **more: Any) -> AuthSettings:
    return AuthSettings(
        **{
            "jwt_issuer": ISSUER,
            "jwt_audience": AUDIENCE,
            "jwt_algorithms": kind,
            "jwt_public_key": public_pem(kind.split(",")[0]).decode(),
            "jwt_remembered": 0,
            **more,
        }
    )


def tokens(kind: str = "RS256", **more: Any) -> IssuedTokens:
    found = settings(kind, **more)
    return IssuedTokens(found, given_keys(found))


def encoded(part: Any) -> str:
    text = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def signed(header: Any, payload: Any, secret: bytes) -> str:
    """A token that HMAC signs, as PyJWT refuses to make it with a public key as secret."""
    head = f"{encoded(header)}.{encoded(payload)}"
    return f"{head}.{encoded(hmac.digest(secret, head.encode(), hashlib.sha256))}"


def rs_signed(header: Any, payload: Any) -> str:
    head = f"{encoded(header)}.{encoded(payload)}"
    signature = jwt.get_algorithm_by_name("RS256").sign(head.encode(), private_key("RS256"))
    return f"{head}.{encoded(signature)}"


@pytest.mark.parametrize("kind", ["RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA"])
async def test_a_token_of_the_issuer_names_its_caller(kind):
    principal = await tokens(kind).principal(token(kind))
    assert (principal.identity, principal.tenant, principal.owner) == ("ada", "default", "ada")
    assert (principal.permissions, principal.read_only) == (("read", "write"), False)


async def test_claims_name_tenant_scopes_and_what_graphs_see():
    found = tokens(
        jwt_identity_claim="email",
        jwt_tenant_claim="https://example.org/tenant",
        jwt_scopes_claim="realm_access.roles",
        jwt_scope_prefix="headrace:",
        jwt_user_claims="email, name",
    )
    given: dict[str, Any] = {
        "email": "ada@example.org",
        "https://example.org/tenant": "acme",
        "realm_access": {"roles": ["headrace:tenant", "headrace:read", "admin"]},
        "name": "Ada",
    }
    principal = await found.principal(token(**given))
    assert (principal.identity, principal.tenant) == ("ada@example.org", "acme")
    assert (principal.whole_tenant, principal.read_only) == (True, True)
    assert principal.caller == "tenant:acme"
    assert principal.user == {
        "identity": "ada@example.org",
        "is_authenticated": True,
        "permissions": ["read", "tenant"],
        "email": "ada@example.org",
        "name": "Ada",
    }
    missing: dict[str, Any]
    for missing in ({"https://example.org/tenant": None}, {"email": None}):
        with pytest.raises(Unauthenticated, match="has no claim"):
            await found.principal(token(**{**given, **missing}))
    scopes: dict[str, Any] | None
    for scopes in ({"roles": []}, {"roles": ["read"]}, {"roles": ["headrace:tenant"]}, {}, None):
        with pytest.raises(Forbidden, match="headrace:read"):
            await found.principal(token(**{**given, "realm_access": scopes}))


async def test_scopes_may_be_a_text():
    found = tokens(jwt_scopes_claim="scope")
    assert (await found.principal(token(scope="openid read"))).read_only
    assert not (await found.principal(token(scope="write openid"))).read_only
    with pytest.raises(Forbidden):
        await found.principal(token(scope="reader writer"))


def forged() -> dict[str, str]:
    """What must not open a server that takes RS256, by name."""
    usual, pem = claims(), public_pem("RS256")
    good = token()
    head, payload, signature = good.split(".")
    now = int(time.time())
    return {
        "nothing": "",
        "dots": "..",
        "no token": "hello",
        "truncated": good[:-10],
        "without signature": f"{head}.{payload}.",
        "two segments": f"{head}.{payload}",
        "four segments": f"{good}.{signature}",
        "signature of another": f"{head}.{payload}.{token(sub='eve').split('.')[2]}",
        "other claims": f"{head}.{encoded({**usual, 'sub': 'eve'})}.{signature}",
        "with line feed": f"{good}\n",
        "none": f"{encoded({'alg': 'none'})}.{encoded(usual)}.",
        "None": f"{encoded({'alg': 'None'})}.{encoded(usual)}.{signature}",
        "none in two": f"{encoded({'alg': ['none', 'RS256']})}.{encoded(usual)}.{signature}",
        "algorithm in algorithm": f"{encoded({'alg': {'alg': 'RS256'}})}.{payload}.{signature}",
        "without algorithm": f"{encoded({'typ': 'JWT'})}.{payload}.{signature}",
        "lower case": f"{encoded({'alg': 'rs256'})}.{payload}.{signature}",
        "public key as secret": signed({"alg": "HS256", "typ": "JWT"}, usual, pem),
        "public key without its last line feed": signed({"alg": "HS256"}, usual, pem.strip()),
        "RS512 where RS256 is set": token("RS512"),
        "ES256 where RS256 is set": token("ES256"),
        "other key": token(number=1),
        "kid as path": token(number=1, headers={"kid": "../../../../dev/null"}),
        "kid of an empty secret": signed({"alg": "HS256", "kid": "/dev/null"}, usual, b""),
        "kid as SQL": token(number=1, headers={"kid": "x' UNION SELECT 'secret' --"}),
        "kid as number": rs_signed({"alg": "RS256", "kid": 7}, usual),
        "jku": token(number=1, headers={"jku": "http://127.0.0.1:1/jwks.json"}),
        "x5u": token(number=1, headers={"x5u": "http://127.0.0.1:1/cert.pem"}),
        "own key in jwk": token(number=1, headers={"jwk": jwk("RS256", 1)}),
        "crit": rs_signed({"alg": "RS256", "crit": ["exp"], "exp": now + 60}, usual),
        "unencoded": rs_signed({"alg": "RS256", "b64": False, "crit": ["b64"]}, usual),
        "algorithm twice": rs_signed(b'{"alg":"none","alg":"RS256"}', usual),
        "claim twice": rs_signed(
            {"alg": "RS256"}, json.dumps(usual).replace("{", '{"sub": "eve", ', 1).encode()
        ),
        "claims as list": rs_signed({"alg": "RS256"}, [usual]),
        "claims as text": rs_signed({"alg": "RS256"}, b'"ada"'),
        "claims too deep": rs_signed({"alg": "RS256"}, b"[" * 2500),
        "no utf-8": rs_signed({"alg": "RS256"}, b"\xff\xfe"),
        "expired": token(exp=now - 120),
        "expired as text": token(exp=str(now - 120)),
        "without exp": token(exp=None),
        "exp as text": token(exp=str(now + 600)),
        "exp as true": token(exp=True),
        "exp without end": rs_signed(
            {"alg": "RS256"}, json.dumps({**usual, "exp": float("inf")}).encode()
        ),
        "exp too large": token(exp=10**400),
        "exp as list": token(exp=[now + 600]),
        "not valid yet": token(nbf=now + 3600),
        "made in the future": token(iat=now + 3600),
        "other audience": token(aud="others"),
        "audience as part": token(aud="agents-of-others"),
        "without audience": token(aud=None),
        "audience as object": token(aud={"agents": True}),
        "other issuer": token(iss="https://evil.example.org/"),
        "issuer as part": token(iss="https://login.example.org"),
        "issuer as list": rs_signed({"alg": "RS256"}, {**usual, "iss": [ISSUER]}),
        "without issuer": token(iss=None),
        "without caller": token(sub=None),
        "caller as number": rs_signed({"alg": "RS256"}, {**usual, "sub": 7}),
        "caller with line feed": token(sub="ada\nadmin"),
        "caller with NUL": token(sub="ada\x00"),
        "caller without letters": token(sub=""),
        "long caller": token(sub="a" * 129),
        "caller of headrace": token(sub="anonymous"),
        "caller system": token(sub="system"),
        "huge": f"{head}.{'A' * 100_000}.{signature}",
        "not ASCII": good + "ü",
    }


@pytest.fixture(scope="module", name="made")
def _made() -> dict[str, str]:
    """Made when the tests begin: what was made as they were collected may have expired since."""
    return forged()


@pytest.mark.parametrize("name", tuple(forged()))
async def test_nothing_else_opens(name, made):
    with pytest.raises(Unauthenticated, match=r"^The token in Authorization ") as refused:
        await tokens().principal(made[name])
    assert refused.value.bearer == "invalid_token"
    assert "ada" not in refused.value.message


async def test_the_sentence_says_what_to_change():
    for more, words in (
        ({"exp": int(time.time()) - 120}, "has expired"),
        ({"nbf": int(time.time()) + 120}, "is not valid yet"),
        ({"aud": "others"}, "is meant for another audience"),
        ({"iss": "others"}, "is of another issuer"),
        ({"exp": None}, "has no claim exp"),
    ):
        with pytest.raises(Unauthenticated, match=words):
            await tokens().principal(token(**more))


async def test_clocks_may_differ_a_little():
    now = int(time.time())
    found = tokens(jwt_leeway_seconds=60)
    await found.principal(token(exp=now - 30))
    await found.principal(token(nbf=now + 30))
    await found.principal(token(aud=["others", AUDIENCE]))


async def test_a_key_checks_nothing_of_another_kind():
    """Both algorithms are set, and the key is of one of them."""
    found = tokens("ES256,RS256")
    assert (await found.principal(token("ES256"))).identity == "ada"
    with pytest.raises(Unauthenticated, match="key that the issuer does not have"):
        await found.principal(token("RS256"))


async def test_a_remembered_token_still_expires(monkeypatch):
    found = tokens(jwt_remembered=2, jwt_leeway_seconds=0, jwt_remember_seconds=600)
    now = time.time()
    text = token(exp=int(now) + 60)
    first = await found.principal(text)
    assert await found.principal(text) is first
    monkeypatch.setattr("headrace.auth.tokens.time", lambda: now + 59)
    assert await found.principal(text) is first
    monkeypatch.setattr("headrace.auth.tokens.time", lambda: now + 61)
    assert await found.principal(text) is not first  # PyJWT's own clock has not moved
    for number in range(5):
        await found.principal(token(jti=str(number)))
    assert len(found._remembered) == 2


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"jwt_algorithms": "HS256"}, "is not one of RS256"),
        ({"jwt_algorithms": "none"}, "is not one of RS256"),
        ({"jwt_algorithms": ""}, "is not one of RS256"),
        ({"jwt_issuer": ""}, "jwt_issuer and jwt_audience"),
        ({"jwt_audience": " , "}, "jwt_issuer and jwt_audience"),
        ({"jwt_jwks_url": "https://login.example.org/jwks"}, "not several"),
        ({"jwt_public_key": ""}, "need the issuer's keys"),
        ({"jwt_public_key": "", "jwt_jwks_url": "http://login.example.org/j"}, "https://"),
        ({"jwt_public_key": "", "jwt_jwks_url": "file:///etc/passwd"}, "https://"),
        ({"mode": "none"}, "mode is none"),
        ({"jwt_identity_claim": ""}, "has to name a claim"),
    ],
)
def test_rules_that_would_let_others_in_are_refused(more, words):
    with pytest.raises(ValueError, match=words):
        settings(**more)


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("RS256", "hello", "no public key"),
        ("RS256", public_pem("ES256").decode(), "cannot check RS256"),
        ("RS256", public_pem("short").decode(), "cannot check RS256"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused_at_the_start(kind, text, words):
    with pytest.raises(StartupRefusal, match=words) as refused:
        given_keys(settings(kind, jwt_public_key=text))
    assert refused.value.code == "HR120"


def test_a_key_may_be_a_file(tmp_path):
    path = tmp_path / "issuer.pem"
    found = settings(jwt_public_key="", jwt_public_key_file=path)
    with pytest.raises(StartupRefusal, match="cannot be read"):
        given_keys(found)
    path.write_bytes(public_pem("RS256"))
    given_keys(found)


def test_settings_of_the_environment(monkeypatch):
    monkeypatch.setenv("HEADRACE_AUTH", "required")
    monkeypatch.setenv("HEADRACE_AUTH__JWT_ISSUER", ISSUER)
    monkeypatch.setenv("HEADRACE_AUTH__JWT_AUDIENCE", AUDIENCE)
    monkeypatch.setenv("HEADRACE_AUTH__JWT_JWKS_URL", "https://login.example.org/jwks.json")
    found = Settings()
    assert (found.auth.mode, found.auth.takes_tokens) == ("required", True)
    assert found.credentials_needed
    assert not found.local_only
    assert Settings(auth="auto").auth.mode == "auto"
    monkeypatch.setenv("HEADRACE_AUTH", "nobody")
    with pytest.raises(ValueError, match="auth"):
        Settings()
