"""The handlers of ``langgraph.json``, made ready for a process."""

from collections.abc import Callable

import structlog

from headrace.auth.handler_cache import HandlerCache
from headrace.auth.handlers import PARAMETERS, Handlers, unknown_actions, unknown_parameters
from headrace.errors import StartupRefusal
from headrace.graphs.auth_object import LoadedAuth

_log = structlog.stdlib.get_logger("headrace.auth")


def open_handlers(
    loaded: LoadedAuth | None, *, seconds: float, count: Callable[[str, str], None]
) -> Handlers:
    """The handlers; without ``auth`` in the manifest, they allow everything.

    :param seconds: a handler may take this long.
    :param count: as :class:`Handlers`.
    :raises StartupRefusal: HR127 ``authenticate`` asks for what no request has.
    """
    if loaded is None:
        return Handlers()
    authenticate = loaded.auth._authenticate_handler
    assert authenticate is not None
    if unknown := unknown_parameters(authenticate):
        raise StartupRefusal(
            "HR127",
            where=loaded.where,
            what=f"its authenticate asks for {', '.join(unknown)}, which no request has",
            remedy=f"Name some of {', '.join(PARAMETERS)}, or give it a default.",
        )
    entry = loaded.entry.cache
    cache = None
    if entry is not None:
        cache = HandlerCache(entry.cache_keys, seconds=entry.ttl_seconds, most=entry.max_size)
    handlers = Handlers(loaded.auth, cache=cache, seconds=seconds, count=count)
    _log.info("auth_handlers_loaded", where=loaded.where, remembers=cache is not None)
    if unhandled := handlers.unhandled:
        _log.warning(
            "auth_actions_without_handler",
            allowed=unhandled,
            meaning="every caller that authenticate admits may do these, with the rows of all",
            remedy="register auth.on for them, or one @auth.on for all",
        )
    if never := unknown_actions(loaded.auth):
        _log.warning("auth_handlers_never_asked", handlers=never, remedy="correct their names")
    return handlers
