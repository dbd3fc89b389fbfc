"""Who calls: the one way from a request to a :class:`Principal`.

A request proves who calls by the first of these that it has: a key of the settings or of the
database, a token of the issuer, what the user's own handler accepts. Without any, the caller is
anonymous where that is allowed. A proof that fails is refused: nobody becomes anonymous by sending
a key that was revoked.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias, cast

from headrace.auth.api_keys import HEADER, ApiKeys, bearer_of
from headrace.auth.key_text import BEGINNING
from headrace.auth.principal import ANONYMOUS, Principal
from headrace.errors import RequestError, Unauthenticated
from headrace.unavailable_errors import Unavailable

#: An ASGI scope of a request or a WebSocket.
Scope: TypeAlias = MutableMapping[str, Any]

#: How a caller proves who it is.
Proof = Literal["setting_key", "database_key", "token", "handler", "none"]
Outcome = Literal["admitted", "refused", "unavailable"]

#: The key in the state of a request.
_FOUND = "headrace_principal"

_KEY_HEADER = HEADER.encode()


class Verifier(Protocol):
    """Knows the callers of one kind of text: keys of the database, or tokens."""

    async def principal(self, text: str, /) -> Principal:
        """
        :raises Unauthenticated: the text opens nothing.
        :raises Unavailable: that cannot be told now.
        """
        ...


#: The user's own handler: from a scope to the caller.
Handler = Callable[[Scope], Awaitable[Principal]]


@dataclass(frozen=True, slots=True)
class Presented:
    """What a request brings to prove who calls; None: nothing of that kind."""

    key: str | None
    bearer: str | None


class Identity:
    """One per process.

    :param keys: the keys of the settings, and the rule for servers without keys.
    :param database_keys: None: the process knows no keys of the database.
    :param tokens: None: no issuer is configured.
    :param handler: None: the user has none.
    :param required: nobody is anonymous.
    :param count: called with each proof and what became of it.
    """

    def __init__(
        self,
        keys: ApiKeys,
        *,
        database_keys: Verifier | None = None,
        tokens: Verifier | None = None,
        handler: Handler | None = None,
        required: bool = False,
        count: Callable[[Proof, Outcome], None] = lambda proof, outcome: None,
    ) -> None:
        self._keys = keys
        self._database_keys = database_keys
        self._tokens = tokens
        self._handler = handler
        self._required = required
        self._count = count
        #: The callers with keys of the settings, by their names for shares.
        self._named: dict[str, Principal] = {"": ANONYMOUS}

    async def principal(self, scope: Scope) -> Principal:
        """Who sends this request. It is found once for a request: see :func:`principal_of`.

        :raises Unauthenticated: the request needs a proof, or its proof is refused.
        :raises StrangerRefused: there are no keys, and the caller may be on another machine.
        :raises Unavailable: whether the proof is good cannot be told now.
        """
        state = scope.setdefault("state", {})
        headers = scope["headers"]
        found = state.get(_FOUND)
        # A server may use one state for all requests of a connection.
        if found is not None and found[0] is headers:
            return cast("Principal", found[1])
        presented = presented_by(scope)
        proof, text = self._proof(presented)
        try:
            principal = await self._proven(proof, text, presented, scope)
        except Unavailable:
            self._count(proof, "unavailable")
            raise
        except RequestError:
            self._count(proof, "refused")
            raise
        self._count(proof, "admitted")
        state[_FOUND] = (headers, principal)
        return principal

    async def ask_again(self, scope: Scope) -> Principal:
        """As :meth:`principal`, and anew: for a connection that lasts.

        :raises RequestError: as there.
        """
        scope.get("state", {}).pop(_FOUND, None)
        return await self.principal(scope)

    def _proof(self, presented: Presented) -> tuple[Proof, str]:
        """Which proof counts, and its text; for a key of the settings, the caller's name. SDKs send
        a key of their environment, which may be for others.
        """
        for text in (presented.key, presented.bearer):
            if text is None:
                continue
            if name := self._keys.name_of(text):
                return "setting_key", name
            if text.startswith(BEGINNING) and self._database_keys is not None:
                return "database_key", text
        if presented.bearer is not None and self._tokens is not None:
            return "token", presented.bearer
        return ("handler" if self._handler is not None else "none"), ""

    async def _proven(
        self, proof: Proof, text: str, presented: Presented, scope: Scope
    ) -> Principal:
        if proof == "setting_key":
            return self._with_name(text)
        if proof == "database_key" and self._database_keys is not None:
            return await self._database_keys.principal(text)
        if proof == "token" and self._tokens is not None:
            return await self._tokens.principal(text)
        if proof == "handler" and self._handler is not None:
            return await self._handler(scope)
        return self._anonymous(presented, scope)

    def _anonymous(self, presented: Presented, scope: Scope) -> Principal:
        try:
            # With keys in the settings, this refuses callers that have none of them.
            name = self._keys.check(presented.key or presented.bearer, scope)
            if self._required:
                raise Unauthenticated(f"Send an API key in the header {HEADER}.")
        except Unauthenticated as error:
            if self._tokens is None:
                raise
            both = f"{error.message} A token as Authorization: Bearer is accepted too."
            raise Unauthenticated(both, bearer="") from None
        return self._with_name(name)

    def _with_name(self, name: str) -> Principal:
        found = self._named.get(name)
        if found is None:
            found = self._named[name] = replace(ANONYMOUS, caller=name)
        return found


def principal_of(scope: Scope) -> Principal:
    """The caller that :meth:`Identity.principal` has found for this request.

    :raises LookupError: nobody has asked who calls.
    """
    found = scope.get("state", {}).get(_FOUND)
    if found is None:
        raise LookupError("nobody has asked who sends this request")
    return cast("Principal", found[1])


def presented_by(scope: Scope) -> Presented:
    """What a request brings.

    :raises Unauthenticated: it has a header twice, with two values: which one counts would depend
        on the proxy.
    """
    key: bytes | None = None
    authorization: bytes | None = None
    for name, value in scope["headers"]:
        if name == _KEY_HEADER:
            if key is not None and key != value:
                raise Unauthenticated(f"Send the header {HEADER} once.")
            key = value
        elif name == b"authorization":
            if authorization is not None and authorization != value:
                raise Unauthenticated("Send the header Authorization once.", bearer="")
            authorization = value
    return Presented(
        None if key is None else key.decode("latin-1"),
        None if authorization is None else bearer_of(authorization.decode("latin-1")),
    )
