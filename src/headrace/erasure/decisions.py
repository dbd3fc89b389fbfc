"""What is done with each table, when an owner or a tenant is erased.

A test finds a table without a decision.
"""

from collections.abc import Mapping
from types import MappingProxyType

#: The rows of the subject, in tables that have a tenant and an owner.
OWN = "tenant = %(tenant)s AND (%(owner)s::text IS NULL OR owner = %(owner)s)"

_THREADS = f"SELECT thread_id FROM threads WHERE {OWN}"  # noqa: S608 - of constants
_OF_THREADS = f"thread_id IN ({_THREADS})"
#: Also runs that others have made on its threads.
_RUNS = f"SELECT run_id FROM runs WHERE ({OWN}) OR {_OF_THREADS}"  # noqa: S608 - of constants

#: Which rows are erased, by table; in the order in which that is done. The rows of ``store`` are
#: chosen by namespace (``store_scope.py``).
ERASED: Mapping[str, str] = MappingProxyType(
    {
        # First what could make more: keys let callers in, crons make runs.
        "api_keys": OWN,
        "crons": f"({OWN}) OR {_OF_THREADS}",
        # These are found by threads and runs, so they go before them.
        "idempotency_keys": f"tenant = %(tenant)s AND (%(owner)s::text IS NULL OR {_OF_THREADS}"
        f" OR to_jsonb(idempotency_keys) ->> 'owner' = %(owner)s OR run_id IN ({_RUNS}))",
        "webhook_deliveries": f"({OWN}) OR {_OF_THREADS}",
        "run_usage": f"({OWN}) OR {_OF_THREADS}",
        "run_events": f"run_id IN ({_RUNS})",
        "checkpoint_writes": _OF_THREADS,
        "checkpoint_blobs": _OF_THREADS,
        "checkpoints": _OF_THREADS,
        "runs": f"({OWN}) OR {_OF_THREADS}",
        "threads": OWN,
        "assistant_versions": "assistant_id IN ("  # noqa: S608 - of constants
        f"SELECT assistant_id FROM assistants WHERE {OWN})",
        "assistants": OWN,
        "store": "",
        # Deleted with their items (ON DELETE CASCADE).
        "store_vectors": "",
        "store_vectors_next": "",
        "store_index_paths": "",
    }
)

#: Tables of items: their conditions are on the namespace.
OF_STORE = frozenset({"store", "store_vectors", "store_vectors_next", "store_index_paths"})

#: Tables that callers write nothing into, with what they hold.
KEPT: Mapping[str, str] = MappingProxyType(
    {
        "checkpoint_migrations": "numbers of LangGraph's migrations",
        "headrace_alembic_version": "the revision",
        "processes": "the server's own hosts and process ids",
        "schema_compat": "a revision",
        "store_index": "which model the vectors come from",
        "store_migrations": "numbers of LangGraph's migrations",
        "vector_migrations": "numbers of LangGraph's migrations",
    }
)
