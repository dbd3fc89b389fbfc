"""The settings of identity: who may call, and how callers prove who they are."""

from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from headrace.setting_groups import Group, comma_separated

Mode = Literal["auto", "required", "none"]

#: Algorithms with two keys, a private and a public one. With a shared secret, everybody who can
#: check a token could also make one.
ALGORITHMS = (
    *(f"{family}{bits}" for family in ("RS", "PS", "ES") for bits in (256, 384, 512)),
    "EdDSA",
)


class AuthSettings(Group):
    """Who may call, and how callers prove who they are (docs/identity.md).

    `HEADRACE_AUTH=none` is short for `HEADRACE_AUTH__MODE=none`.
    """

    mode: Mode = Field(
        "auto",
        description="`auto`: without keys and tokens, headrace listens only on a loopback address"
        " and answers only callers on this machine; `required`: every caller needs a key or a"
        " token, for servers with keys of `headrace keys create` alone; `none`: any address and any"
        " caller, because a proxy in front authenticates callers.",
    )
    keys_refresh_seconds: float = Field(
        10.0,
        gt=0,
        le=25,
        description="How often a process asks the database which of the keys that it knows are"
        " revoked. A revoked key is refused at the latest after this time and 4 s.",
    )
    keys_away_seconds: float = Field(
        300.0,
        ge=0,
        le=86_400,
        description="While the database is away, keys that a process knows are accepted for this"
        " long.",
    )
    keys_remembered: int = Field(
        10_000, ge=1, description="Keys of the database, and unknown ones, that a process knows."
    )
    jwt_issuer: str = Field("", description="`iss` that tokens must have.")
    jwt_audience: str = Field(
        "", description="`aud` that tokens must have; one of several, separated by commas."
    )
    jwt_algorithms: str = Field(
        "RS256",
        description="Algorithms that tokens may be signed with, separated by commas: `RS256` to"
        " `RS512`, `PS256` to `PS512`, `ES256` to `ES512`, `EdDSA`.",
    )
    jwt_jwks_url: str = Field(
        "", description="URL of the issuer's keys (JWKS); `https://`, or this machine."
    )
    jwt_public_key: str = Field(
        "", description="The issuer's public key as PEM, in place of a URL; `\\n` ends a line."
    )
    jwt_public_key_file: Path | None = Field(
        None, description="File with the issuer's public key as PEM, in place of a URL."
    )
    jwt_leeway_seconds: float = Field(
        30.0, ge=0, le=300, description="How far the clocks of issuer and server may differ."
    )
    jwt_identity_claim: str = Field(
        "sub", description="Claim that names the caller, who owns what it creates."
    )
    jwt_tenant_claim: str = Field(
        "",
        description="Claim that names the caller's tenant; tokens without it are refused. Empty:"
        " all callers are of the tenant `default`.",
    )
    jwt_scopes_claim: str = Field(
        "",
        description="Claim with the caller's scopes, `read`, `write` and `tenant`: a list, or a"
        " text with spaces. Empty: every token has `read` and `write`.",
    )
    jwt_scope_prefix: str = Field(
        "", description="What stands before the three words in that claim, e.g. `headrace:`."
    )
    jwt_user_claims: str = Field(
        "",
        description="Claims that graphs see in `langgraph_auth_user`, separated by commas. They are"
        " stored with runs.",
    )
    jwt_max_bytes: int = Field(
        8192, ge=256, le=65_536, description="Longer tokens are refused unread."
    )
    jwt_remembered: int = Field(
        10_000,
        ge=0,
        description="Tokens whose check a process remembers; 0: it checks each token every time.",
    )
    jwt_remember_seconds: float = Field(
        60.0,
        gt=0,
        le=600,
        description="How long it remembers a check, at most until the token expires.",
    )
    jwks_refresh_seconds: float = Field(
        300.0, gt=0, description="How often the issuer's keys are fetched."
    )
    jwks_pause_seconds: float = Field(
        30.0,
        gt=0,
        description="A token with an unknown `kid` has the keys fetched at once, but at most once"
        " in this time.",
    )
    jwks_away_seconds: float = Field(
        86_400.0,
        ge=0,
        description="While the issuer does not answer, its last keys are used for this long.",
    )
    jwks_timeout_seconds: float = Field(
        5.0, gt=0, le=60, description="A fetch of the issuer's keys takes no longer."
    )

    handler_timeout_seconds: float = Field(
        30.0,
        gt=0,
        le=600,
        description="A handler of `auth` in langgraph.json may take this long; then the request is"
        " refused with 503.",
    )

    @model_validator(mode="before")
    @classmethod
    def _mode_alone(cls, given: Any) -> Any:
        return {"mode": given} if isinstance(given, str) else given

    @property
    def takes_tokens(self) -> bool:
        """Whether the tokens of an issuer are accepted."""
        return bool(self.jwt_jwks_url or self.jwt_public_key or self.jwt_public_key_file)

    @property
    def algorithms(self) -> tuple[str, ...]:
        return comma_separated(self.jwt_algorithms)

    @property
    def audiences(self) -> tuple[str, ...]:
        return comma_separated(self.jwt_audience)

    @property
    def user_claims(self) -> tuple[str, ...]:
        return comma_separated(self.jwt_user_claims)

    @model_validator(mode="after")
    def _whole_rules_for_tokens(self) -> Self:
        sources = [self.jwt_jwks_url, self.jwt_public_key, self.jwt_public_key_file]
        given = len([one for one in sources if one])
        if given > 1:
            raise ValueError(
                "set one of jwt_jwks_url, jwt_public_key and jwt_public_key_file, not several"
            )
        if not given and (self.jwt_issuer or self.jwt_audience):
            raise ValueError(
                "tokens need the issuer's keys: set jwt_jwks_url, jwt_public_key or"
                " jwt_public_key_file"
            )
        if not given:
            return self
        if not self.jwt_issuer or not self.audiences:
            raise ValueError(
                "tokens need jwt_issuer and jwt_audience: without them, tokens that were made for"
                " other servers would open this one"
            )
        if not self.jwt_identity_claim:
            raise ValueError("jwt_identity_claim has to name a claim: a token must say who calls")
        if self.mode == "none":
            raise ValueError("mode is none, but there are rules for tokens; unset one of them")
        return self

    @model_validator(mode="after")
    def _algorithms_with_two_keys(self) -> Self:
        unknown = [one for one in self.algorithms if one not in ALGORITHMS]
        if unknown or not self.algorithms:
            raise ValueError(
                f"jwt_algorithms: {unknown[0] if unknown else 'nothing'!r} is not one of"
                f" {', '.join(ALGORITHMS)}"
            )
        return self

    @model_validator(mode="after")
    def _url_that_nobody_can_answer_for(self) -> Self:
        if not self.jwt_jwks_url:
            return self
        url = urlsplit(self.jwt_jwks_url)
        if not url.hostname or not (
            url.scheme == "https" or (url.scheme == "http" and _is_this_machine(url.hostname))
        ):
            raise ValueError("jwt_jwks_url needs https://: keys that others can change open to all")
        return self


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
