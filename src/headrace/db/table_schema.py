"""The schema of headrace's tables, and the names that revisions create in it.

A migration runs these checks first, on a direct connection. Only :func:`create_schema` changes the
database.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from psycopg.errors import DuplicateSchema, InsufficientPrivilege, UniqueViolation

from headrace.errors import StartupRefusal

_Connection = psycopg.Connection[Any]

#: The types of columns by name, in the form of Postgres's ``format_type``.
Columns = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RevisionNames:
    """The names that a revision creates. If there are any, the revision file has them as ``names``.
    A test compares them with what the revision does.

    :ivar tables: tables with some of their columns. A table with these columns belongs to headrace
        or LangGraph, even if an earlier upgrade or LangGraph's ``setup()`` stopped half way.
    :ivar indexes: indexes, also those of primary keys, with their tables.
    :ivar functions: functions, each with a word of its source.
    :ivar repeatable: some of the names may exist before the revision: from a failed attempt, or
        from any version of LangGraph's ``setup()``.
    """

    tables: Mapping[str, Columns] = field(default_factory=dict)
    indexes: Mapping[str, str] = field(default_factory=dict)
    functions: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False


#: Relations, types and functions that have one of these names.
_FOUND = """
SELECT c.relname, CASE c.relkind
    WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'i' THEN 'index' WHEN 'I' THEN 'index'
    WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
    WHEN 'f' THEN 'foreign table' ELSE 'type' END,
  (SELECT relname::text FROM pg_class WHERE oid = x.indrelid),
  (SELECT jsonb_object_agg(attname, format_type(atttypid, NULL)) FROM pg_attribute
    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)
FROM pg_class c LEFT JOIN pg_index x ON x.indexrelid = c.oid
WHERE c.relnamespace = %(schema)s::regnamespace AND c.relname = ANY (%(relations)s)
UNION ALL
SELECT typname, 'type', NULL, NULL
FROM pg_type t
WHERE typnamespace = %(schema)s::regnamespace AND typname = ANY (%(tables)s) AND typrelid = 0
  AND NOT EXISTS (SELECT FROM pg_type AS element WHERE element.typarray = t.oid)
UNION ALL
SELECT proname, 'function', prosrc, NULL
FROM pg_proc
WHERE pronamespace = %(schema)s::regnamespace AND proname = ANY (%(functions)s)
ORDER BY 1, 2
"""

#: A message names so many objects, and counts the others.
_MAX_NAMED = 6

#: The setting that gives headrace a schema of its own.
_SETTING = "HEADRACE_DATABASE__SCHEMA"


def find_schema(connection: _Connection, schema: str) -> str:
    """The schema that has headrace's tables, or will have them.

    :param schema: the schema of the setting. If it is empty, this returns the schema of the version
        table, or else the first schema of the role's ``search_path``.
    :raises StartupRefusal: HR318 there is no such schema.
    """
    if schema:
        return schema
    row = connection.execute(
        "SELECT coalesce((SELECT relnamespace::regnamespace::name FROM pg_class"
        " WHERE oid = to_regclass('headrace_alembic_version')), current_schema()),"
        " current_setting('search_path'), current_user"
    ).fetchone()
    assert row is not None
    if row[0] is None:
        raise StartupRefusal(
            "HR318",
            where="database schema",
            what=f"the search_path of role {row[2]} ({row[1] or 'empty'}) leads to no schema",
            remedy=f"Set {_SETTING} to the schema that headrace is to have.",
        )
    return str(row[0])


def create_schema(connection: _Connection, schema: str) -> None:
    """Create the schema, unless it exists.

    :raises StartupRefusal: HR318 this role may not create the schema, or tables in it.
    """
    found = connection.execute(
        "SELECT has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE')"
        " FROM pg_namespace WHERE nspname = %s",
        (schema,),
    ).fetchone()
    user = connection.info.user
    if found is None:
        try:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        except (DuplicateSchema, UniqueViolation):
            pass  # another migration has created it meanwhile
        except InsufficientPrivilege:
            raise StartupRefusal(
                "HR318",
                where=f"schema {schema}",
                what=f"it does not exist, and role {user} may not create it",
                remedy=f'Have its owner run CREATE SCHEMA "{schema}" AUTHORIZATION "{user}",'
                " or set MIGRATION_DATABASE_URL to a role that may.",
            ) from None
    elif not found[0]:
        raise StartupRefusal(
            "HR318",
            where=f"schema {schema}",
            what=f"role {user} may not create tables in it",
            remedy=f'Have its owner run GRANT USAGE, CREATE ON SCHEMA "{schema}" TO "{user}",'
            " or set MIGRATION_DATABASE_URL to a role that may.",
        )


def other_schema_with_tables(connection: _Connection, schema: str) -> str | None:
    """Another schema, on this role's ``search_path``, that has headrace's or LangGraph's tables."""
    row = connection.execute(
        "SELECT relnamespace::regnamespace::name FROM pg_class c"
        " WHERE oid IN (to_regclass('headrace_alembic_version'), to_regclass('checkpoints'))"
        " AND relnamespace <> (SELECT oid FROM pg_namespace WHERE nspname = %s)"
        " AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND NOT attisdropped"
        "  AND attname IN ('version_num', 'checkpoint_ns')) LIMIT 1",
        (schema,),
    ).fetchone()
    return str(row[0]) if row else None


def no_access(schema: str, user: str) -> StartupRefusal:
    """HR318 for the role of a server: it must use the schema, but need not create tables."""
    return StartupRefusal(
        "HR318",
        where=f"schema {schema}",
        what=f"role {user} may not use it",
        remedy=f'Have its owner run GRANT USAGE ON SCHEMA "{schema}" TO "{user}".',
    )


def refuse_taken_names(
    connection: _Connection, schema: str, pending: Sequence[RevisionNames]
) -> None:
    """Check that the names of the ``pending`` revisions are free.

    If headrace or LangGraph has created an object, a repeatable revision accepts it.

    :raises StartupRefusal: HR317 a name is taken. Nothing was changed.
    """
    found = list(_taken(connection, schema, pending))
    if not found:
        return
    told = ", ".join(f"{kind} {name}" for name, kind, _ in found[:_MAX_NAMED])
    more = f" and {len(found) - _MAX_NAMED} more" if len(found) > _MAX_NAMED else ""
    if all(ours for _, _, ours in found):
        what = f"it has headrace's {told}{more}, but not the table headrace_alembic_version"
        remedy = (
            "Restore that table from the backup of the others, or drop the others,"
            f" or set {_SETTING} to a schema for headrace alone."
        )
    else:
        what = f"it has {told}{more} of another application, and headrace needs the names"
        remedy = (
            f"Set {_SETTING}=headrace (any name) to give headrace a schema of its own,"
            " or rename them. Nothing was changed."
        )
    raise StartupRefusal("HR317", where=f"schema {schema}", what=what, remedy=remedy)


def _taken(
    connection: _Connection, schema: str, pending: Sequence[RevisionNames]
) -> Iterator[tuple[str, str, bool]]:
    """The objects in the way: name, kind, and whether the object looks like headrace's."""
    tables: dict[str, Columns] = {}
    indexes: dict[str, str] = {}
    functions: dict[str, str] = {}
    allowed: set[str] = set()
    for names in pending:
        tables |= names.tables
        indexes |= names.indexes
        functions |= names.functions
        if names.repeatable:
            allowed |= {*names.tables, *names.indexes, *names.functions}
    rows = connection.execute(
        _FOUND,
        {
            "schema": sql.Identifier(schema).as_string(connection),
            "relations": [*tables, *indexes],
            "tables": list(tables),
            "functions": list(functions),
        },
    ).fetchall()
    ours = {
        name
        for name, kind, _, columns in rows
        if kind == "table" and name in tables and _has(columns, tables[name])
    }
    for name, kind, of, _ in rows:
        if kind == "table":
            is_ours = name in ours
        elif kind == "index":
            # The index's table is older than these revisions, or was examined above.
            is_ours = of == indexes.get(name) and (of in ours or of not in tables)
        else:
            is_ours = kind == "function" and functions[name] in of
        if not (is_ours and name in allowed):
            yield name, kind, is_ours


def _has(columns: Mapping[str, str] | None, wanted: Columns) -> bool:
    return columns is not None and wanted.items() <= columns.items()
