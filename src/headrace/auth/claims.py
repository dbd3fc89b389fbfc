"""The claims of a token that is checked, made into a caller."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.auth.principal import DEFAULT_TENANT, Principal, caller_of, is_name
from headrace.auth.scopes import SCOPES, TENANT, USUAL, WRITE, in_order, lets_in
from headrace.auth_settings import AuthSettings
from headrace.errors import Forbidden, Unauthenticated


@dataclass(frozen=True, slots=True)
class TokenRules:
    """Which claims say what; empty: none does."""

    identity: str
    tenant: str
    scopes: str
    scope_prefix: str
    user: tuple[str, ...]

    @classmethod
    def of(cls, settings: AuthSettings) -> "TokenRules":
        return cls(
            settings.jwt_identity_claim,
            settings.jwt_tenant_claim,
            settings.jwt_scopes_claim,
            settings.jwt_scope_prefix,
            settings.user_claims,
        )


def principal_of_claims(claims: Mapping[str, Any], rules: TokenRules) -> Principal:
    """The caller with these claims.

    :raises Unauthenticated: a claim that names caller or tenant is missing, or cannot name one.
    :raises Forbidden: the token lets its caller do nothing.
    """
    identity = _named(claims, rules.identity)
    tenant = _named(claims, rules.tenant) if rules.tenant else DEFAULT_TENANT
    scopes = _scopes(claims, rules) if rules.scopes else USUAL
    return Principal(
        identity=identity,
        tenant=tenant,
        whole_tenant=TENANT in scopes,
        permissions=scopes,
        user=_user(claims, rules, identity, scopes),
        read_only=WRITE not in scopes,
        caller=caller_of(tenant, hashlib.sha256(f"token {identity}".encode()).hexdigest()[:16]),
    )


def _named(claims: Mapping[str, Any], name: str) -> str:
    value = _claim(claims, name)
    if not isinstance(value, str) or not is_name(value):
        what = "has no claim" if value is None else "has something that is no name as claim"
        raise Unauthenticated(f"The token in Authorization {what} {name}.", bearer="invalid_token")
    return value


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name; ``realm_access.roles`` is also ``roles`` within ``realm_access``."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _scopes(claims: Mapping[str, Any], rules: TokenRules) -> tuple[str, ...]:
    told = _claim(claims, rules.scopes)
    words = told.split() if isinstance(told, str) else told if isinstance(told, list) else []
    prefixed = {f"{rules.scope_prefix}{scope}": scope for scope in SCOPES}
    scopes = [prefixed[word] for word in words if isinstance(word, str) and word in prefixed]
    if not lets_in(scopes):
        raise Forbidden(
            f"The token has neither {rules.scope_prefix}read nor {rules.scope_prefix}write in its"
            f" claim {rules.scopes}."
        )
    return in_order(scopes)


def _user(
    claims: Mapping[str, Any], rules: TokenRules, identity: str, scopes: tuple[str, ...]
) -> Mapping[str, Any] | None:
    """What graphs see; None: the identity alone."""
    if not rules.user:
        return None
    chosen = {name: value for name in rules.user if (value := _claim(claims, name)) is not None}
    return {
        **chosen,
        "identity": identity,
        "is_authenticated": True,
        "permissions": list(scopes),
    }
