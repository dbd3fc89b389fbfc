"""Imports ``file.py:attribute``. Only this module imports code of the user.

A module gets the name that the user's own imports give it, so that it is loaded once:
``package/graph.py`` on the path is ``package.graph``. If another file has that name already, the
module gets a name of its own.
"""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from headrace.errors import StartupRefusal
from headrace.graphs.manifest import GraphEntry, missing
from headrace.graphs.object_path import attribute_of, module_of, names_a_file
from headrace.observability.user_code import described, fault_place

#: The names of the result of ``from_conn_string()`` in the messages of LangGraph's ``compile()``.
_CONTEXT_MANAGERS = ("_AsyncGeneratorContextManager", "_GeneratorContextManager")


def add_import_folders(folders: Iterable[Path]) -> None:
    """Make the user's modules importable. They come first, as in a script."""
    for folder in reversed([str(folder) for folder in folders]):
        if folder not in sys.path:
            sys.path.insert(0, folder)


def load(graph_id: str, entry: GraphEntry, folder: Path) -> Any:
    """The object that ``entry`` names. File paths are relative to ``folder``.

    :raises StartupRefusal: HR101, HR102, HR105, as :func:`load_object`.
    """
    return load_object(entry.path, folder, where=entry.described_as(graph_id))


def load_object(path: str, folder: Path, *, where: str) -> Any:
    """The object at ``path``. A file path is relative to ``folder``.

    :param where: the name of the object in refusals.
    :raises StartupRefusal: HR101 it does not exist, HR102 it was compiled with an invalid
        checkpointer, HR105 its import raised.
    """
    name, attribute = module_of(path), attribute_of(path)
    try:
        if names_a_file(path):
            module = _import_file((folder / name).resolve(), shown=name)
        else:
            module = _import_dotted(name)
    except _NoSuchModule as nothing:
        raise missing(where, str(nothing)) from None
    except BaseException as error:
        # An import may raise anything, also SystemExit and KeyboardInterrupt.
        raise import_refusal(where, error) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise missing(where, f"{name} has no '{attribute}'{_instead(module)}") from None
    except BaseException as error:
        # The module may have a __getattr__ that raises.
        raise import_refusal(where, error) from error


class _NoSuchModule(Exception):
    pass


def _import_dotted(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise _NoSuchModule(f"there is no module {error.name}") from None
        raise


def _import_file(file: Path, *, shown: str) -> ModuleType:
    if not file.is_file():
        raise _NoSuchModule(f"there is no file {shown}")
    root, name = _place_on_path(file)
    add_import_folders([root])
    if name not in sys.modules:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
        else:
            if _is_of(module, file):
                return module
    elif _is_of(sys.modules[name], file):
        return sys.modules[name]
    return _import_under_own_name(file)


def _place_on_path(file: Path) -> tuple[Path, str]:
    """The folder above the outermost package that holds ``file``, and its dotted name there."""
    parts = [file.stem]
    folder = file.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts)


def _is_of(module: ModuleType, file: Path) -> bool:
    origin = getattr(module, "__file__", None)
    return origin is not None and Path(origin).resolve() == file


def _import_under_own_name(file: Path) -> ModuleType:
    name = f"{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise _NoSuchModule(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def import_refusal(where: str, error: BaseException) -> StartupRefusal:
    """HR105; HR102 if LangGraph has raised because of an invalid checkpointer."""
    if isinstance(error, TypeError) and "checkpointer" in str(error):
        for name in _CONTEXT_MANAGERS:
            if name in str(error):
                return own_checkpointer(where, is_context_manager=True)
    place = fault_place(error)
    at = f" ({place})" if place else ""
    what = f"importing it raised {described(error).rstrip('.')}"
    remedy = "Correct that line; the traceback is above."
    if isinstance(error, SystemExit):
        what = f"importing it ended the program, as sys.exit({_exit_code(error)}) does"
        remedy = 'Move that below `if __name__ == "__main__":`.'
    elif isinstance(error, ModuleNotFoundError):
        remedy = "Install the package or correct the name; the traceback is above."
    elif isinstance(error, SyntaxError):
        remedy = "Correct that line."
    return StartupRefusal("HR105", where=where, what=f"{what}{at}", remedy=remedy)


def own_checkpointer(where: str, *, is_context_manager: bool, what: str = "") -> StartupRefusal:
    """HR102."""
    found = (
        "its checkpointer is an un-entered context manager (from_conn_string() returns one)"
        if is_context_manager
        else f"it is compiled with {what} of its own"
    )
    return StartupRefusal(
        "HR102",
        where=where,
        what=found,
        remedy="Remove it: headrace injects the saver.",
    )


def own_store(where: str, kind: str) -> StartupRefusal:
    """HR102."""
    return StartupRefusal(
        "HR102",
        where=where,
        what=f"it is compiled with a store ({kind}) of its own",
        remedy="Remove it: headrace injects the store, and nodes get it as runtime.store.",
    )


def _exit_code(error: SystemExit) -> str:
    return "" if error.code is None else repr(error.code)


def _instead(module: ModuleType) -> str:
    """Names of graphs in the module, for the message about a missing name."""
    names = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, type)
        # Ask the type: a proxy object would import its target.
        and (hasattr(type(value), "compile") or hasattr(type(value), "astream"))
    ]
    return f" (it has {', '.join(sorted(names))})" if names else ""
