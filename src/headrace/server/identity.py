"""Opens what tells who calls: keys of the settings and of the database, and tokens of an issuer."""

from contextlib import AsyncExitStack

import httpx
import structlog

from headrace.auth.api_keys import ApiKeys
from headrace.auth.identity import Identity
from headrace.auth.issuer_keys import FetchedKeys, given_keys
from headrace.auth.known_keys import KnownKeys
from headrace.auth.repository import KeyRepository
from headrace.auth.tokens import IssuedTokens
from headrace.auth_settings import AuthSettings
from headrace.lifecycle import Tasks
from headrace.observability.auth_metrics import AuthMetrics
from headrace.server.resources import Resources

_log = structlog.stdlib.get_logger("headrace.auth")


async def open_identity(resources: Resources, stack: AsyncExitStack) -> Identity:
    """The identity of a process, until the stack is closed.

    :raises StartupRefusal: HR120 the issuer's public key cannot be used.
    """
    settings, metrics = resources.settings, resources.metrics.auth
    client = _client(settings.auth, stack)
    # They end before the client is closed.
    tasks = Tasks(resources.supervision)
    stack.push_async_callback(tasks.stop)
    known = KnownKeys(KeyRepository(resources.pool), settings.auth)
    known.start(tasks)
    if settings.auth.mode == "none" and settings.server.api:
        _log.warning(
            "anonymous_allowed",
            answered="everybody who reaches this server, with all rights",
            remedy="set HEADRACE_API_KEYS or HEADRACE_AUTH=required, unless a proxy in front asks"
            " who calls",
        )
    return Identity(
        ApiKeys(settings.accepted_api_keys, local_only=settings.local_only),
        database_keys=known,
        tokens=await _open_tokens(settings.auth, client, metrics, tasks),
        handler=resources.handlers.authenticate if resources.handlers.authenticates else None,
        required=settings.credentials_needed,
        count=metrics.count_check,
    )


def _client(settings: AuthSettings, stack: AsyncExitStack) -> httpx.AsyncClient | None:
    """For the issuer's keys; None: they are not fetched."""
    if not settings.jwt_jwks_url:
        return None
    client = httpx.AsyncClient(timeout=settings.jwks_timeout_seconds, follow_redirects=False)
    stack.push_async_callback(client.aclose)
    return client


async def _open_tokens(
    settings: AuthSettings, client: httpx.AsyncClient | None, metrics: AuthMetrics, tasks: Tasks
) -> IssuedTokens | None:
    """None: no issuer is configured. If it is away, the first tokens have its keys fetched."""
    if not settings.takes_tokens:
        return None
    if client is None:
        return IssuedTokens(settings, given_keys(settings))
    keys = FetchedKeys(settings, client, count=metrics.count_fetch)
    await keys.start(tasks)
    return IssuedTokens(settings, keys)
