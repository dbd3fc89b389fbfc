"""What Postgres says of tables, and of transactions that keep dead rows."""

from time import monotonic

from headrace.db.pool import Connection
from headrace.db.statements import TABLES, schema_of, statement
from headrace.observability.figures import TableFigures

# The names are looked up as the statements of headrace look them up: in the search_path of the role
# or in the schema of their own. The size takes a shared lock of each table.
_TABLE_STATISTICS = statement("""
SELECT wanted.name, s.n_live_tup, s.n_dead_tup, pg_total_relation_size(s.relid),
  coalesce(s.seq_scan, 0), coalesce(s.seq_tup_read, 0), s.n_tup_upd, s.n_tup_hot_upd,
  extract(epoch FROM clock_timestamp() - coalesce(
    greatest(s.last_vacuum, s.last_autovacuum),
    (SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()),
    pg_postmaster_start_time()))::float8,
  coalesce(s.last_vacuum, s.last_autovacuum) IS NOT NULL
FROM unnest(%(names)s::text[], %(places)s::text[]) AS wanted (name, place)
JOIN pg_stat_user_tables s ON s.relid = to_regclass(wanted.place)
ORDER BY wanted.name
""")

# Vacuum removes no row that one of these may still see. Vacuums themselves hold nothing back. Here
# a role without pg_read_all_stats sees only its own sessions.
_OLDEST_TRANSACTION = statement("""
SELECT coalesce(max(seconds), 0)::float8 FROM (
  SELECT extract(epoch FROM clock_timestamp() - xact_start) AS seconds FROM pg_stat_activity
  WHERE (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND pid <> pg_backend_pid()
    AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
    AND coalesce(datname, current_database()) = current_database()
  UNION ALL
  SELECT extract(epoch FROM clock_timestamp() - prepared) FROM pg_prepared_xacts
  WHERE database = current_database()
) AS held
""")

_SLOTS = statement("""
SELECT slot_name::text, xmin::text FROM pg_replication_slots WHERE xmin IS NOT NULL
""")


async def read_tables(connection: Connection) -> tuple[TableFigures, ...]:
    """The statistics of the tables of ``TABLES`` that exist, ordered by name."""
    schema = schema_of(connection)
    places = [f'"{schema}"."{name}"' if schema else name for name in TABLES]
    names = {"names": list(TABLES), "places": places}
    cursor = await connection.execute(_TABLE_STATISTICS, names, prepare=False)
    return tuple(TableFigures(*row) for row in await cursor.fetchall())


class OldestTransaction:
    """The age of what holds vacuum back: transactions, prepared transactions, replication slots.

    Postgres knows no time of a slot. So a slot is as old as the time for which this object has seen
    the slot at its present transaction.
    """

    def __init__(self) -> None:
        #: By slot: its transaction, and when it was first seen there.
        self._slots: dict[str, tuple[str, float]] = {}

    async def seconds(self, connection: Connection) -> float:
        """The age of the oldest one; 0: there is none."""
        row = await (await connection.execute(_OLDEST_TRANSACTION, prepare=False)).fetchone()
        assert row is not None
        cursor = await connection.execute(_SLOTS, prepare=False)
        now, seen = monotonic(), self._slots
        self._slots = {
            slot: seen[slot] if seen.get(slot, ("",))[0] == xmin else (xmin, now)
            for slot, xmin in await cursor.fetchall()
        }
        return max([float(row[0]), *(now - since for _, since in self._slots.values())])
