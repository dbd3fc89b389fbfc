"""The functions of the database that a flush calls: their text, and whether a database has them.

Revisions create them. A function is compared by its source, which names the schema of the tables.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from headrace.db.statements import qualified

#: The functions of this release, each with the file that defines it.
_FILES = ("flush_2.sql",)

#: The source of a function stands between these.
_QUOTES = "$$"

#: A function as a database has it: a row of :data:`INSTALLED`.
InstalledFunction = tuple[str, str | None, str | None, bool | None]

#: Schema and source of each function, and whether the role may call it. NULL: it is missing.
INSTALLED = """
SELECT given.name, pg_namespace.nspname, prosrc, has_function_privilege(pg_proc.oid, 'EXECUTE')
FROM unnest(%(names)s::text[], %(regprocs)s::text[])
  WITH ORDINALITY AS given (name, regproc, number)
LEFT JOIN pg_proc ON pg_proc.oid = to_regproc(given.regproc)
LEFT JOIN pg_namespace ON pg_namespace.oid = pronamespace
ORDER BY number
"""


@cache
def function_definitions() -> Mapping[str, str]:
    """``CREATE OR REPLACE FUNCTION`` of each function, by name; a function stands before those that
    call it. Names have no schema.
    """
    found: dict[str, str] = {}
    for filename in _FILES:
        found |= definitions_of(files("headrace.db").joinpath(filename).read_text(encoding="utf-8"))
    return MappingProxyType(found)


def definitions_of(text: str) -> dict[str, str]:
    """The functions in the text of a file, by name. Lines before a name, and comments, are left
    out.
    """
    parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)[1:]
    bodies = (body[body.index("CREATE ") :].strip() for body in parts[1::2])
    return dict(zip(parts[::2], bodies, strict=True))


def definitions_in(schema: str) -> Mapping[str, str]:
    """:func:`function_definitions` with ``schema`` before the names of tables and functions.

    So a function needs no ``search_path``, and no temporary table can stand in for one of ours.
    """
    return in_schema(function_definitions(), schema)


def in_schema(definitions: Mapping[str, str], schema: str) -> dict[str, str]:
    """Definitions with ``schema`` before the names of tables and functions."""
    return {name: qualified(text.encode(), schema).decode() for name, text in definitions.items()}


def installed_parameters(schema: str) -> Mapping[str, list[str]]:
    """The parameters of :data:`INSTALLED`.

    :param schema: the schema of the setting; empty: the role's ``search_path`` decides.
    """
    names = list(function_definitions())
    prefix = f'"{schema}".' if schema else ""
    return {"names": names, "regprocs": [f"{prefix}{name}" for name in names]}


def unfit_functions(installed: Iterable[InstalledFunction]) -> list[str]:
    """The functions that are missing, or have another source than those of this release."""
    return [
        name
        for name, schema, source, _ in installed
        if schema is None or source != definitions_in(schema)[name].split(_QUOTES)[1]
    ]


def forbidden_functions(installed: Iterable[InstalledFunction]) -> list[str]:
    """The functions that this role may not call."""
    return [name for name, _, _, may_call in installed if may_call is False]
