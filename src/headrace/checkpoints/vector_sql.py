"""The statements of the semantic index, for one index and the schema of its extension.

Names of pgvector's types and operators have the schema, because the ``search_path`` of a server's
role need not lead to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headrace.checkpoints.store_roots import without_scope
from headrace.db.row_sizes import size_of
from headrace.db.statements import Statement, statement
from headrace.db.vector_index import VectorIndex

#: Items that have not expired.
_LIVES = "(store.expires_at IS NULL OR store.expires_at > now())"

#: Items below a namespace: one range of the index on the prefixes, whatever characters it has. "/"
#: comes right after ".".
_BELOW = """ AND {table}.prefix ~>=~ %s AND {table}.prefix ~<~ %s
  AND ({table}.prefix = %s OR {table}.prefix ~>=~ %s)"""


@dataclass(frozen=True, slots=True)
class Scope:
    """The items that a search may find: below a namespace, and with a filter.

    :ivar conditions: of the filter, as SQL that begins with AND.
    """

    namespace: str
    conditions: str = ""
    values: Sequence[Any] = ()

    def below(self, table: str) -> tuple[str, list[Any]]:
        """SQL that begins with AND, and its parameters."""
        if not self.namespace:
            return f" AND {without_scope(table)}", []
        name = self.namespace
        return _BELOW.format(table=table), [name, f"{name}/", name, f"{name}."]


@dataclass(frozen=True, slots=True)
class Query:
    """A statement and its parameters, in order."""

    text: Statement
    values: Sequence[Any]


class VectorSql:
    """Builds statements.

    :param home: the schema of the extension, quoted.
    """

    def __init__(self, index: VectorIndex, home: str) -> None:
        self._kind = f"{home}.{index.vector_type}"
        self._column = f"{home}.{index.column_type}"
        self._distance = f"sv.embedding OPERATOR({home}.{index.operator}) %s::{self._kind}"

    def count(self, scope: Scope, most: int) -> Query:
        """How many items are below the namespace, counted up to ``most``."""
        below, values = scope.below("store")
        text = f"SELECT count(*) FROM (SELECT FROM store WHERE TRUE{below} LIMIT %s) AS counted"  # noqa: S608 - of constants
        return Query(statement(text), [*values, most])

    def narrow(self, scope: Scope, vector: str, page: "HitPage") -> Query:
        """The closest of few items: all are compared, each found by its key."""
        below, values = scope.below("store")
        near = f"""
          SELECT one.prefix, one.key, best.distance FROM (
            SELECT store.prefix, store.key FROM store
            WHERE {_LIVES}{below}{scope.conditions} OFFSET 0
          ) AS one CROSS JOIN LATERAL (
            SELECT min({self._distance}) AS distance FROM store_vectors AS sv
            WHERE sv.prefix = one.prefix AND sv.key = one.key
          ) AS best"""  # noqa: S608 - of constants
        return _sized(near, [*values, *scope.values, vector], page)

    def exact(self, scope: Scope, vector: str, page: "HitPage") -> Query:
        """The closest of many items: all are compared."""
        below, values = scope.below("store")
        near = f"""
          SELECT sv.prefix, sv.key, min({self._distance}) AS distance
          FROM store_vectors AS sv JOIN store ON store.prefix = sv.prefix AND store.key = sv.key
          WHERE {_LIVES}{below}{scope.conditions}
          GROUP BY sv.prefix, sv.key"""  # noqa: S608 - of constants
        return _sized(near, [vector, *values, *scope.values], page)

    def indexed(self, scope: Scope, vector: str, page: "HitPage", *, candidates: int) -> Query:
        """The closest items, by the index on the vectors, from so many vectors."""
        below, values = scope.below("sv")
        near = f"""
          SELECT prefix, key, min(distance) AS distance FROM (
            SELECT sv.prefix, sv.key, {self._distance} AS distance
            FROM store_vectors AS sv JOIN store ON store.prefix = sv.prefix AND store.key = sv.key
            WHERE {_LIVES}{below}{scope.conditions}
            ORDER BY {self._distance} LIMIT %s
          ) AS candidate GROUP BY prefix, key"""  # noqa: S608 - of constants
        return _sized(near, [vector, *values, *scope.values, vector, candidates], page)

    def insert(self) -> Statement:
        """Writes vectors: arrays of prefixes, keys, names of fields, and vectors as text."""
        return statement(f"""
          INSERT INTO store_vectors (prefix, key, field_name, embedding)
          SELECT prefix, key, field_name, embedding::{self._column}
          FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[])
            AS given (prefix, key, field_name, embedding)""")  # noqa: S608 - of constants

    def insert_into(self, table: str) -> Statement:
        """As :meth:`insert`, into this table, with an array of the times of the items at the end.

        A put writes item and vectors at one time. So does this, and it can be told later which
        items have changed since.
        """
        return statement(f"""
          INSERT INTO {table} (prefix, key, field_name, embedding, updated_at)
          SELECT prefix, key, field_name, embedding::{self._column}, updated_at
          FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[])
            AS given (prefix, key, field_name, embedding, updated_at)""")  # noqa: S608 - of constants


def forgetting(table: str) -> Statement:
    """Deletes the rows of items from this table: arrays of prefixes and keys."""
    return statement(f"""
      DELETE FROM {table} AS kept USING unnest(%s::text[], %s::text[]) AS put (prefix, key)
      WHERE kept.prefix = put.prefix AND kept.key = put.key""")  # noqa: S608 - of constants


FORGET_VECTORS, FORGET_PATHS = forgetting("store_vectors"), forgetting("store_index_paths")

#: Remembers the paths that puts have named: arrays of prefixes, keys, and paths as JSON.
INSERT_PATHS = statement("""
  INSERT INTO store_index_paths (prefix, key, paths)
  SELECT prefix, key, paths::jsonb
  FROM unnest(%s::text[], %s::text[], %s::text[]) AS given (prefix, key, paths)""")

#: The items of these keys that still live: arrays of prefixes and keys.
READ_ITEMS = statement(f"""
  SELECT store.prefix, store.key, store.value, store.created_at, store.updated_at
  FROM unnest(%s::text[], %s::text[]) AS found (prefix, key)
  JOIN store ON store.prefix = found.prefix AND store.key = found.key
  WHERE {_LIVES}""")  # noqa: S608 - of constants

#: Begins the time to live of these items anew: arrays of prefixes and keys.
PROLONG = statement("""
  UPDATE store SET expires_at = now() + store.ttl_minutes * interval '1 minute'
  FROM unnest(%s::text[], %s::text[]) AS found (prefix, key)
  WHERE store.prefix = found.prefix AND store.key = found.key AND store.ttl_minutes IS NOT NULL""")


@dataclass(frozen=True, slots=True)
class HitPage:
    """The part of the found items that is wanted.

    :ivar max_bytes: the bytes that its values may have; only a value that might be larger than its
        share of them is measured exactly.
    """

    limit: int
    offset: int
    max_bytes: int


def _sized(near: str, values: list[Any], page: HitPage) -> Query:
    """The page of ``near``, closest first, with the size of each item's value."""
    size = size_of(("value",), "store", share=str(page.max_bytes // max(page.limit, 1)))
    # A vector of zeros has no angle. Its distance is no number, and it is close to nothing.
    text = f"""
      WITH near AS MATERIALIZED (
        SELECT prefix, key, distance FROM ({near}) AS each
        WHERE distance <> 'NaN' ORDER BY distance, prefix, key LIMIT %s OFFSET %s
      )
      SELECT near.prefix, near.key, near.distance, {size} AS size_bytes
      FROM near JOIN store ON store.prefix = near.prefix AND store.key = near.key
      ORDER BY near.distance, near.prefix, near.key"""  # noqa: S608 - of constants
    return Query(statement(text), [*values, page.limit, page.offset])
