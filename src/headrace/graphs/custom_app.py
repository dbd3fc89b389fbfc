"""``http.app`` of ``langgraph.json``: imports and checks an app of the user."""

from pathlib import Path
from typing import Any

import structlog

from headrace.errors import StartupRefusal
from headrace.graphs.loader import add_import_folders, load_object
from headrace.graphs.manifest import Manifest, apply_environment

_log = structlog.stdlib.get_logger("headrace.graphs")

#: Attributes of every Starlette and FastAPI app. headrace needs them to serve it.
_PARTS = ("router", "user_middleware", "exception_handlers")


def load_custom_app(manifest: Manifest) -> Any:
    """The app; None if the manifest names none.

    :raises StartupRefusal: HR101 the app or a dependency does not exist, HR104 the file of ``env``
        does not exist, HR105 the import raised, HR107 it is no app.
    """
    path = manifest.http.app if manifest.http is not None else None
    if path is None:
        return None
    apply_environment(manifest)
    add_import_folders(manifest.import_folders())
    where = custom_app_place(path)
    try:
        found = load_object(path, manifest.folder, where=where)
    except StartupRefusal as refusal:
        if refusal.__cause__ is not None:
            _log.error("custom_app_failed", path=path, exc_info=refusal.__cause__)
        raise
    if isinstance(found, type) or not all(hasattr(found, part) for part in _PARTS):
        kind = f"the class {found.__name__}" if isinstance(found, type) else _a(type(found))
        raise StartupRefusal(
            "HR107",
            where=where,
            what=f"it is {kind}, not a Starlette or FastAPI app",
            remedy="Name the app itself, like ./webapp.py:app.",
        )
    return found


def load_served_app(path: str) -> Any:
    """The app of ``--app module:app``, imported as a server process imports it.

    :raises StartupRefusal: HR101 it does not exist, HR105 its import raised.
    """
    module, _, attribute = path.partition(":")
    # gunicorn also accepts a call. Without a name it uses `application`.
    wanted = f"{module}:{(attribute or 'application').partition('(')[0]}"
    where = f"--app {path}"
    try:
        return load_object(wanted, Path.cwd(), where=where)
    except StartupRefusal as refusal:
        if refusal.__cause__ is not None:
            _log.error("custom_app_failed", path=path, exc_info=refusal.__cause__)
        if refusal.code == "HR101":
            raise StartupRefusal(
                "HR101",
                where=where,
                what=refusal.what,
                remedy="Write it as module:app, as Python imports it from this folder.",
            ) from None
        raise


def custom_app_place(path: str) -> str:
    """The name of the app in refusals."""
    return f"http.app ({path})"


def _a(kind: type) -> str:
    return f"{'an' if kind.__name__[0] in 'aeiouAEIOU' else 'a'} {kind.__name__}"
