"""Which proof counts when a request has several, and what is refused."""

from contextlib import suppress
from typing import Any

import pytest

from headrace.admission_errors import StrangerRefused
from headrace.auth.api_keys import ApiKeys
from headrace.auth.identity import Identity, principal_of
from headrace.auth.key_text import digest_of, new_key, prefix_of
from headrace.auth.known_keys import principal_of_key
from headrace.auth.principal import ANONYMOUS, Principal, is_name
from headrace.auth.repository import StoredKey
from headrace.edge.refusals import headers_of_error
from headrace.errors import Unauthenticated

KEY, OTHER = "k" * 24, "o" * 24
STORED = new_key()


class Stored:
    """Knows one key of the database."""

    async def principal(self, text: str) -> Principal:
        if text != STORED.text:
            raise Unauthenticated("This API key is not known here.")
        prefix = prefix_of(text) or ""
        key = StoredKey(prefix, digest_of(text), "acme", "job-1", ("read",), None, False)
        return principal_of_key(key)


class Issued:
    """Knows one token."""

    async def principal(self, text: str) -> Principal:
        if text != "the.good.token":
            raise Unauthenticated("The token in Authorization has expired.", bearer="invalid_token")
        return Principal("ada", "acme", whole_tenant=False)


async def handler(_scope: Any) -> Principal:
    return Principal("of the handler")


def scope(*headers: tuple[str, str], client: str = "127.0.0.1") -> dict[str, Any]:
    pairs = [(name.encode(), value.encode()) for name, value in headers]
    return {"type": "http", "headers": pairs, "client": (client, 4711), "state": {}}


def key(value: str) -> tuple[str, str]:
    return "x-api-key", value


def bearer(value: str) -> tuple[str, str]:
    return "authorization", f"Bearer {value}"


def identity(**more: Any) -> Identity:
    parts = {"database_keys": Stored(), "tokens": Issued(), "required": True, **more}
    return Identity(ApiKeys([KEY, OTHER]), **parts)


@pytest.mark.parametrize(
    ("headers", "who"),
    [
        ([key(KEY)], "anonymous"),
        ([bearer(KEY)], "anonymous"),
        ([key(STORED.text)], "job-1"),
        ([bearer(STORED.text)], "job-1"),
        ([("authorization", f"bearer  {STORED.text} ")], "job-1"),
        ([bearer("the.good.token")], "ada"),
        # The key of another service, which an SDK has found in the environment.
        ([key("lsv2_something"), bearer("the.good.token")], "ada"),
        ([key(KEY), bearer("the.good.token")], "anonymous"),
        ([key(KEY), key(KEY)], "anonymous"),
    ],
)
async def test_the_first_proof_counts(headers, who):
    request = scope(*headers)
    principal = await identity().principal(request)
    assert principal.identity == who
    assert principal_of(request) is principal


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ([], 'ApiKey header="x-api-key", Bearer'),
        ([key("")], 'ApiKey header="x-api-key", Bearer'),
        ([key("unknown")], 'ApiKey header="x-api-key", Bearer'),
        ([key(new_key().text)], 'ApiKey header="x-api-key"'),
        # A key that was revoked is not helped by another proof.
        ([key(new_key().text), bearer("the.good.token")], 'ApiKey header="x-api-key"'),
        ([bearer("some.bad.token")], 'Bearer error="invalid_token"'),
        ([key("unknown"), bearer("some.bad.token")], 'Bearer error="invalid_token"'),
        ([("authorization", f"Basic {KEY}")], 'ApiKey header="x-api-key", Bearer'),
        ([("authorization", KEY)], 'ApiKey header="x-api-key", Bearer'),
        ([key("unknown"), key(KEY)], 'ApiKey header="x-api-key"'),
        ([key(KEY), key(OTHER)], 'ApiKey header="x-api-key"'),
        ([bearer("the.good.token"), bearer(KEY)], 'ApiKey header="x-api-key", Bearer'),
    ],
)
async def test_nothing_else_does(headers, challenge):
    with pytest.raises(Unauthenticated) as refused:
        await identity().principal(scope(*headers))
    assert headers_of_error(refused.value)["WWW-Authenticate"] == challenge


async def test_without_tokens_nobody_speaks_of_them():
    with pytest.raises(Unauthenticated, match=r"^Send an API key in the header x-api-key\.$") as no:
        await identity(tokens=None).principal(scope(("authorization", "Basic x")))
    assert headers_of_error(no.value)["WWW-Authenticate"] == 'ApiKey header="x-api-key"'


async def test_a_handler_is_asked_after_keys_and_tokens():
    found = identity(handler=handler)
    for headers, who in (
        ([], "of the handler"),
        ([key("unknown")], "of the handler"),
        ([key(KEY)], "anonymous"),
        ([key(STORED.text)], "job-1"),
        ([bearer("the.good.token")], "ada"),
    ):
        assert (await found.principal(scope(*headers))).identity == who
    without_tokens = identity(handler=handler, tokens=None)
    assert (await without_tokens.principal(scope(bearer("x.y.z")))).identity == "of the handler"


async def test_a_server_without_keys_answers_its_own_machine():
    found = Identity(ApiKeys([], local_only=True), database_keys=Stored())
    assert await found.principal(scope(key("anything"))) == ANONYMOUS
    with pytest.raises(StrangerRefused):
        await found.principal(scope(key("anything"), client="192.0.2.7"))
    # Nobody becomes anonymous by sending a key that was revoked.
    with pytest.raises(Unauthenticated):
        await found.principal(scope(key(new_key().text)))
    stranger = scope(key(STORED.text), client="192.0.2.7")
    assert (await found.principal(stranger)).identity == "job-1"


async def test_keys_of_the_database_alone():
    found = Identity(ApiKeys([]), database_keys=Stored(), required=True)
    assert (await found.principal(scope(key(STORED.text)))).identity == "job-1"
    for headers in ([], [key("anything")]):
        with pytest.raises(Unauthenticated, match="x-api-key"):
            await found.principal(scope(*headers))


async def test_a_state_that_outlives_a_request_lends_nobody_an_identity():
    """A server may use one state for all requests of a connection."""
    found = identity()
    first = scope(key(STORED.text))
    await found.principal(first)
    second = {**scope(bearer("the.good.token")), "state": first["state"]}
    assert (await found.principal(second)).identity == "ada"
    with pytest.raises(Unauthenticated):
        await found.principal({**scope(), "state": first["state"]})


async def test_each_check_is_counted():
    counted: list[tuple[str, str]] = []
    found = identity(count=lambda proof, outcome: counted.append((proof, outcome)))
    request = scope(key(KEY))
    await found.principal(request)
    await found.principal(request)
    for headers in ([key(STORED.text)], [bearer("the.good.token")], [bearer("no")], []):
        with suppress(Unauthenticated):
            await found.principal(scope(*headers))
    assert counted == [
        ("setting_key", "admitted"),
        ("database_key", "admitted"),
        ("token", "admitted"),
        ("token", "refused"),
        ("none", "refused"),
    ]


def test_nobody_asks_who_calls_after_the_fact():
    with pytest.raises(LookupError):
        principal_of(scope())


@pytest.mark.parametrize(
    "name", ["", "system", "anonymous", "a\nb", "a\x00", " a", "a ", "\u202eevil", "a" * 129]
)
def test_names_of_nobody(name):
    assert not is_name(name)


@pytest.mark.parametrize("name", ["acme", "auth0|4711", "Ada Lovelace", "grüße", "a" * 128])
def test_names_of_callers(name):
    assert is_name(name)
