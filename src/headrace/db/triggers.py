"""The triggers of headrace's tables: their text, and whether a database has them.

Revisions create them. A trigger is compared by its table and by the source of its function, blanks
aside.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from headrace.db.functions import definitions_of, in_schema

#: The source of a function stands between these.
_QUOTES = "$$"
#: ``pg_trigger.tgenabled`` of a trigger that does not fire, or only for replication.
_OFF = ("D", "R")

#: A trigger as a database has it: a row of :data:`INSTALLED_TRIGGERS`.
InstalledTrigger = tuple[str, str | None, str | None, str | None, str | None, str | None]

#: For each trigger: the schema of its table, whether it is switched on, and schema, name and source
#: of its function. NULL: it is missing.
INSTALLED_TRIGGERS = """
SELECT given.name, of_table.nspname, tgenabled::text, of_function.nspname, proname, prosrc
FROM unnest(%(names)s::text[], %(tables)s::text[]) WITH ORDINALITY AS given (name, tbl, number)
LEFT JOIN pg_trigger ON tgrelid = to_regclass(given.tbl) AND tgname = given.name
LEFT JOIN pg_class ON pg_class.oid = tgrelid
LEFT JOIN pg_namespace AS of_table ON of_table.oid = relnamespace
LEFT JOIN pg_proc ON pg_proc.oid = tgfoid
LEFT JOIN pg_namespace AS of_function ON of_function.oid = pronamespace
ORDER BY number
"""


@dataclass(frozen=True, slots=True)
class Trigger:
    """:ivar definition: the text that creates it."""

    name: str
    table: str
    function: str
    definition: str


@cache
def triggers() -> Mapping[str, Trigger]:
    """The triggers of this release, by name."""
    return MappingProxyType(
        {
            name: _trigger(name, text)
            for name, text in _definitions().items()
            if text.startswith("CREATE TRIGGER")
        }
    )


def trigger_functions(schema: str) -> Mapping[str, str]:
    """``CREATE OR REPLACE FUNCTION`` of each function by name; tables have ``schema``."""
    names = {trigger.function for trigger in triggers().values()}
    return in_schema({name: _definitions()[name] for name in sorted(names)}, schema)


def installed_triggers_parameters(schema: str) -> Mapping[str, list[str]]:
    """The parameters of :data:`INSTALLED_TRIGGERS`.

    :param schema: the schema of the setting; empty: the role's ``search_path`` decides.
    """
    prefix = f'"{schema}".' if schema else ""
    return {
        "names": list(triggers()),
        "tables": [f"{prefix}{trigger.table}" for trigger in triggers().values()],
    }


def unfit_triggers(installed: Iterable[InstalledTrigger]) -> list[str]:
    """The triggers that are missing or switched off, or call another function than that of this
    release.
    """
    return [one[0] for one in installed if not _fits(*one)]


def _fits(
    name: str,
    schema: str | None,
    enabled: str | None,
    function_schema: str | None,
    function: str | None,
    source: str | None,
) -> bool:
    if schema is None or source is None or enabled in _OFF:
        return False
    ours = triggers()[name].function
    if (function_schema, function) != (schema, ours):
        return False
    expected = trigger_functions(schema)[ours].split(_QUOTES)[1]
    return source.split() == expected.split()


@cache
def _definitions() -> Mapping[str, str]:
    text = files("headrace.db").joinpath("triggers.sql").read_text(encoding="utf-8")
    return MappingProxyType(definitions_of(text))


def _trigger(name: str, text: str) -> Trigger:
    table = text.partition("\n")[0].rpartition(" ON ")[2]
    function = text.rpartition("EXECUTE FUNCTION ")[2].removesuffix("()")
    return Trigger(name, table, function, text)
