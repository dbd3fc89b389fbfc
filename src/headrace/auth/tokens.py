"""Tokens of an issuer (JWT): checked by PyJWT, and made into callers.

The settings alone say what is accepted. A token's header chooses a key among the issuer's and an
algorithm among those of the settings; an algorithm checks only with keys of its kind.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from time import time
from typing import Any

import jwt

from headrace.auth.claims import TokenRules, principal_of_claims
from headrace.auth.issuer_keys import IssuerKey, IssuerKeys
from headrace.auth.principal import Principal
from headrace.auth_settings import AuthSettings
from headrace.errors import Unauthenticated

#: What a token must have, besides what the settings ask for.
_REQUIRED = ["exp", "iss", "aud"]
#: Claims that are moments.
_MOMENTS = ("exp", "nbf", "iat")
#: Seconds from 1970; larger numbers do not fit into a float.
_LAST_MOMENT = 2**53
#: Parameters of a header that change what is signed, or demand what headrace does not know.
_REFUSED_PARAMETERS = ("crit", "b64", "zip", "enc")


@dataclass(frozen=True, slots=True)
class _CheckedToken:
    principal: Principal
    #: Seconds since 1970.
    until: float
    version: int


class IssuedTokens:
    """One per process. It remembers checks, because a signature takes longer than all else."""

    def __init__(self, settings: AuthSettings, keys: IssuerKeys) -> None:
        self._settings = settings
        self._keys = keys
        self._rules = TokenRules.of(settings)
        self._algorithms = frozenset(settings.algorithms)
        self._remembered: dict[bytes, _CheckedToken] = {}

    async def principal(self, text: str) -> Principal:
        """The caller with this token.

        :raises Unauthenticated: the token opens nothing.
        :raises Forbidden: it has none of headrace's scopes.
        :raises IssuerUnavailable: the issuer's keys are not known now.
        """
        if len(text) > self._settings.jwt_max_bytes:
            raise _refused(f"is longer than {self._settings.jwt_max_bytes} bytes")
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
        found = self._remembered.get(digest)
        if found is not None and found.until > time() and found.version == self._keys.version:
            return found.principal
        claims = await self._checked(text)
        principal = principal_of_claims(claims, self._rules)
        self._remember(digest, principal, claims["exp"])
        return principal

    def _remember(self, digest: bytes, principal: Principal, expires_at: float) -> None:
        most = self._settings.jwt_remembered
        if not most:
            return
        if len(self._remembered) >= most and digest not in self._remembered:
            del self._remembered[next(iter(self._remembered))]
        until = min(
            expires_at + self._settings.jwt_leeway_seconds,
            time() + self._settings.jwt_remember_seconds,
        )
        self._remembered[digest] = _CheckedToken(principal, until, self._keys.version)

    async def _checked(self, text: str) -> dict[str, Any]:
        """The claims of a token that is whole, signed, and meant for this server at this time."""
        header = _header_of(text)
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise _refused(f"must be signed with {' or '.join(self._settings.algorithms)}")
        if any(name in header for name in _REFUSED_PARAMETERS):
            raise _refused("has a header that is not understood here")
        keys = await self._keys.find(kid, algorithm)
        if not keys:
            raise _refused("is signed with a key that the issuer does not have")
        claims = self._verified(text, keys, algorithm)
        if any(not _is_moment(claims[name]) for name in _MOMENTS if name in claims):
            raise _refused("has a time that is no number")
        return claims

    def _verified(self, text: str, keys: Sequence[IssuerKey], algorithm: str) -> dict[str, Any]:
        for key in keys:
            try:
                claims: dict[str, Any] = jwt.decode(
                    text,
                    key.key,
                    algorithms=[algorithm],
                    audience=self._settings.audiences,
                    issuer=self._settings.jwt_issuer,
                    leeway=self._settings.jwt_leeway_seconds,
                    options={"require": _REQUIRED, "verify_sub": False},
                )
            except jwt.InvalidSignatureError:
                continue
            except jwt.PyJWTError as error:
                raise _refused(_reason(error)) from None
            except (ValueError, TypeError, OverflowError, RecursionError):
                raise _refused("cannot be read") from None
            # PyJWT takes the last of two claims of one name; another reader may take the first.
            _object_in(text.split(".")[1])
            return claims
        raise _refused("has a signature that is not of the issuer")


def _header_of(text: str) -> dict[str, Any]:
    """The header of a token. Nothing in it is proven."""
    try:
        header = jwt.get_unverified_header(text)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise _refused("cannot be read") from None
    _object_in(text.split(".")[0])
    return header


def _object_in(segment: str) -> dict[str, Any]:
    """The object in a segment that PyJWT has read.

    :raises Unauthenticated: a name stands twice in it.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name stands twice")
        return found

    try:
        padded = segment + "=" * (-len(segment) % 4)
        found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(padded), object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise _refused("has a name twice, or cannot be read") from None
    return found


def _is_moment(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and -_LAST_MOMENT < value < _LAST_MOMENT


def _reason(error: jwt.PyJWTError) -> str:
    """What to change, without words of the token."""
    match error:
        case jwt.ExpiredSignatureError():
            return "has expired"
        case jwt.ImmatureSignatureError():
            return "is not valid yet"
        case jwt.InvalidAudienceError():
            return "is meant for another audience"
        case jwt.InvalidIssuerError():
            return "is of another issuer"
        case jwt.MissingRequiredClaimError():
            return f"has no claim {error.claim}"
    return "cannot be read"


def _refused(what: str) -> Unauthenticated:
    return Unauthenticated(f"The token in Authorization {what}.", bearer="invalid_token")
