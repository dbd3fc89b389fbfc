"""``auth.path`` of ``langgraph.json``: imports and checks an ``Auth`` of the user."""

from dataclasses import dataclass

import structlog
from langgraph_sdk import Auth

from headrace.errors import StartupRefusal
from headrace.graphs.auth_entry import AuthEntry
from headrace.graphs.loader import load_object
from headrace.graphs.manifest import Manifest
from headrace.graphs.sources import prepare_imports

_log = structlog.stdlib.get_logger("headrace.graphs")


@dataclass(frozen=True, slots=True)
class LoadedAuth:
    """The user's handlers, and what the manifest says about them.

    :ivar where: their name in refusals and in the log.
    """

    auth: Auth
    entry: AuthEntry
    where: str


def load_auth(manifest: Manifest | None) -> LoadedAuth | None:
    """The handlers that the manifest names; None: it names none.

    :raises StartupRefusal: HR101 they, or a folder, do not exist, HR104 the file of ``env`` does
        not, HR105 the import raised, HR125 it is no ``Auth``, HR126 nothing tells who calls.
    """
    entry = manifest.auth if manifest is not None else None
    if manifest is None or entry is None or entry.path is None:
        return None
    prepare_imports(manifest)
    where = f"auth ({entry.path})"
    try:
        found = load_object(entry.path, manifest.folder, where=where)
    except StartupRefusal as refusal:
        if refusal.__cause__ is not None:
            _log.error("auth_import_failed", path=entry.path, exc_info=refusal.__cause__)
        raise
    if not isinstance(found, Auth):
        kind = f"the class {found.__name__}" if isinstance(found, type) else type(found).__name__
        raise StartupRefusal(
            "HR125",
            where=where,
            what=f"it is {kind}, not an object of langgraph_sdk.Auth",
            remedy="Write auth = Auth() there, and name that object, like ./auth.py:auth.",
        )
    if found._authenticate_handler is None:
        raise StartupRefusal(
            "HR126",
            where=where,
            what="it has no handler that tells who calls",
            remedy="Decorate a function with @auth.authenticate; it returns the user, or raises"
            " Auth.exceptions.HTTPException.",
        )
    return LoadedAuth(found, entry, where)
