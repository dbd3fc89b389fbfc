"""The public keys of a token issuer: from a file or a setting, or fetched from its JWKS.

Only the URL of the settings is ever fetched. A token chooses among the keys that are there by its
``kid``, which is compared with theirs and used for nothing else.
"""

import asyncio
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

import httpx
import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from cryptography.x509 import load_pem_x509_certificate

from headrace.admission_errors import IssuerUnavailable
from headrace.auth_settings import ALGORITHMS, AuthSettings
from headrace.errors import StartupRefusal
from headrace.lifecycle import Tasks

_log = structlog.stdlib.get_logger("headrace.auth")

#: Shorter RSA keys can be broken.
_MIN_RSA_BITS = 2048
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
#: Bytes of a key set, and keys in it.
_MAX_BYTES = 512 * 1024
_MAX_KEYS = 100
#: Keys without a ``kid`` that are tried for one token.
_MAX_TRIED = 4


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A public key.

    :ivar kid: None: it fits every token.
    :ivar algorithms: what it may check. A key of one kind checks nothing of another kind.
    """

    kid: str | None
    algorithms: frozenset[str]
    key: Any

    def fits(self, kid: str | None, algorithm: str) -> bool:
        same = self.kid is None or kid is None or self.kid == kid
        return same and algorithm in self.algorithms


class IssuerKeys(Protocol):
    """Where the keys come from."""

    @property
    def version(self) -> int:
        """Another one when the keys have changed."""
        ...

    async def find(self, kid: str | None, algorithm: str) -> Sequence[IssuerKey]:
        """The keys that may have signed a token with this header; empty if there is none.

        :raises IssuerUnavailable: there are no keys now.
        """
        ...


class GivenKeys:
    """A key that never changes."""

    version = 0

    def __init__(self, key: IssuerKey) -> None:
        self._key = key

    async def find(self, kid: str | None, algorithm: str) -> Sequence[IssuerKey]:
        return [self._key] if self._key.fits(kid, algorithm) else []


class FetchedKeys:
    """The keys at a URL, fetched regularly. While the issuer is away, the last ones are used.

    :param client: closed by its owner.
    :param count: called with ``done`` or ``failed`` for each fetch.
    """

    def __init__(
        self,
        settings: AuthSettings,
        client: httpx.AsyncClient,
        *,
        count: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        self._settings = settings
        self._client = client
        self._count = count
        self._keys: tuple[IssuerKey, ...] = ()
        #: When a fetch last succeeded, and when one last began.
        self._fetched_at = self._begun_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._tasks: Tasks | None = None
        self.version = 0

    async def start(self, tasks: Tasks) -> None:
        """Fetch the keys now, and again and again until the tasks are stopped."""
        self._tasks = tasks
        await self._fetched()
        tasks.repeat(
            self._fetched,
            every_seconds=self._settings.jwks_refresh_seconds,
            name="issuer-keys",
            log=_log,
            skipped_event="issuer_keys_not_fetched",
            jitter=0.2,
        )

    async def find(self, kid: str | None, algorithm: str) -> Sequence[IssuerKey]:
        if not self._usable:
            await self._fetched_soon()
        if not self._usable:
            raise IssuerUnavailable
        found = self._fitting(kid, algorithm)
        if not found and kid is not None:
            # The issuer may have a new key.
            await self._fetched_soon()
            found = self._fitting(kid, algorithm)
        return found

    @property
    def _usable(self) -> bool:
        age_seconds = monotonic() - self._fetched_at
        most = self._settings.jwks_refresh_seconds + self._settings.jwks_away_seconds
        return bool(self._keys) and age_seconds <= most

    def _fitting(self, kid: str | None, algorithm: str) -> Sequence[IssuerKey]:
        return [key for key in self._keys if key.fits(kid, algorithm)][:_MAX_TRIED]

    async def _fetched_soon(self) -> None:
        """Wait for a fetch, if there was none a short time ago: callers choose the ``kid``."""
        pause = self._settings.jwks_pause_seconds
        if self._fetching is not None or monotonic() - self._begun_at >= pause:
            await self._fetched()

    async def _fetched(self) -> None:
        """One fetch at a time. All that ask meanwhile wait for it."""
        if self._fetching is None:
            assert self._tasks is not None
            self._fetching = self._tasks.start(self._fetch(), name="fetch-issuer-keys")
        await asyncio.shield(self._fetching)

    async def _fetch(self) -> None:
        self._begun_at = monotonic()
        try:
            async with asyncio.timeout(self._settings.jwks_timeout_seconds):
                keys = keys_of_set(await self._body(), self._settings.algorithms)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            self._count("failed")
            _log.warning(
                "issuer_keys_not_fetched",
                url=self._settings.jwt_jwks_url,
                cause=f"{type(error).__name__}: {error}",
                keys=len(self._keys) if self._usable else 0,
            )
            return
        finally:
            self._fetching = None
        self._count("done")
        self._fetched_at = monotonic()
        if _names(keys) != _names(self._keys):
            self.version += 1
            _log.info("issuer_keys_changed", kids=[key.kid for key in keys])
        self._keys = keys

    async def _body(self) -> bytes:
        """:raises ValueError: it is not what a JWKS can be."""
        async with self._client.stream("GET", self._settings.jwt_jwks_url) as answer:
            if answer.status_code != httpx.codes.OK:
                raise ValueError(f"the answer is {answer.status_code}")
            body = b""
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > _MAX_BYTES:
                    raise ValueError(f"the answer has more than {_MAX_BYTES} bytes")
            return body


def _names(keys: Sequence[IssuerKey]) -> list[Any]:
    """What tells two sets of keys apart."""
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return [(key.kid, key.algorithms, key.key.public_bytes(*form)) for key in keys]


def keys_of_set(body: bytes, algorithms: Collection[str]) -> tuple[IssuerKey, ...]:
    """The keys of a JWKS that may check tokens.

    :raises ValueError: it has none, or is no JWKS.
    """
    try:
        told = json.loads(body)
    except RecursionError:
        raise ValueError("the answer is too deep") from None
    entries = told.get("keys") if isinstance(told, dict) else None
    if not isinstance(entries, list):
        raise ValueError("the answer is no JWKS: it has no list of keys")
    found = [key for one in entries[:_MAX_KEYS] if (key := _key_of(one, algorithms)) is not None]
    if not found:
        raise ValueError(f"none of its keys can check {' or '.join(algorithms)}")
    return tuple(found)


def _key_of(entry: Any, algorithms: Collection[str]) -> IssuerKey | None:
    """The key of an entry; None for keys of other kinds and uses, which a set may have."""
    if not isinstance(entry, dict) or entry.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    uses = entry.get("key_ops")
    if entry.get("use", "sig") != "sig" or (uses is not None and "verify" not in uses):
        return None
    kid, named = entry.get("kid"), entry.get("alg")
    if not isinstance(kid, str | None) or (named is not None and named not in ALGORITHMS):
        return None
    # A private part has no place there, and is not needed.
    public = {name: value for name, value in entry.items() if name not in ("d", "x5u", "x5c")}
    try:
        key = jwt.PyJWK.from_dict(public).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, NotImplementedError):
        return None
    usable = algorithms_of(key) & set(algorithms)
    if named is not None:
        usable &= {named}
    return IssuerKey(kid, usable, key) if usable else None


def algorithms_of(key: Any) -> frozenset[str]:
    """What a public key can check; nothing if it is too weak, or of another kind."""
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _MIN_RSA_BITS:
            return frozenset()
        return frozenset(one for one in ALGORITHMS if one.startswith(("RS", "PS")))
    if isinstance(key, ec.EllipticCurvePublicKey):
        return frozenset({_CURVES[key.curve.name]} if key.curve.name in _CURVES else ())
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return frozenset({"EdDSA"})
    return frozenset()


def given_keys(settings: AuthSettings) -> GivenKeys:
    """The key of the settings.

    :raises StartupRefusal: HR120 it cannot be read, is no public key, or fits no algorithm.
    """
    path = settings.jwt_public_key_file
    where = f"HEADRACE_AUTH__JWT_PUBLIC_KEY{'_FILE' if path else ''}"
    try:
        text = path.read_bytes() if path else settings.jwt_public_key.replace("\\n", "\n").encode()
    except OSError as error:
        raise _unfit(where, f"{path} cannot be read ({error.strerror})") from None
    try:
        if b"BEGIN CERTIFICATE" in text:
            key: Any = load_pem_x509_certificate(text).public_key()
        else:
            key = load_pem_public_key(text)
    except ValueError:
        raise _unfit(where, "it is no public key or certificate in PEM form") from None
    usable = algorithms_of(key) & set(settings.algorithms)
    if not usable:
        named = " or ".join(settings.algorithms)
        raise _unfit(where, f"this key cannot check {named}, or it is too short")
    return GivenKeys(IssuerKey(None, usable, key))


def _unfit(where: str, what: str) -> StartupRefusal:
    return StartupRefusal(
        "HR120",
        where=where,
        what=what,
        remedy="Give the issuer's public key as PEM, and its algorithm as"
        " HEADRACE_AUTH__JWT_ALGORITHMS.",
    )
