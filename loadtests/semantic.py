"""How good and how fast searches by meaning are: ``python -m loadtests.semantic``.

Vectors in clusters, as texts have them, are put into the store. Then the searches of the store run
without an index on the vectors, and with one of each kind. What is found without an index is right,
so the share of it that the others find is their recall. No model is asked: the figures are those of
headrace's statements and of Postgres.
"""

import argparse
import asyncio
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import orjson
import psycopg
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from headrace.checkpoints.semantic_search import SemanticSearch
from headrace.checkpoints.vector_sql import HitPage, Scope
from headrace.database_settings import DatabaseSettings
from headrace.db.logins import login_of
from headrace.db.migrate import prepare_index
from headrace.db.pool import SharedPool
from headrace.db.pool_builder import build_pool
from headrace.db.probe import probe
from headrace.db.vector_index import AnnKind, VectorIndex
from headrace.db.vector_tables import make_ann_index, read_vector_tables
from headrace.index_settings import IndexSettings
from headrace.observability.declarations import Declarations
from headrace.observability.index_metrics import IndexMetrics
from loadtests.measuring.database import MeasuredDatabase, measured_database
from loadtests.measuring.figures import percentile, significant
from loadtests.measuring.results import RESULTS, write_result
from loadtests.measuring.termination import stop_all_on_termination

#: Items that a search wants.
_LIMIT = 10

#: How far vectors of one cluster are from its centre, beside how far centres are from each other.
_NOISE = 0.6

#: The namespaces: ten groups, each with as many users.
_GROUPS, _USERS = 10, 100


@dataclass(frozen=True)
class Workload:
    items: int
    dims: int
    clusters: int
    queries: int
    seed: int = 7

    def centres(self) -> list[list[float]]:
        rng = random.Random(self.seed)
        return [[rng.gauss(0, 1) for _ in range(self.dims)] for _ in range(self.clusters)]

    def vectors(self, seed: int, count: int) -> Iterator[str]:
        """Vectors as text, each near the centre of a cluster."""
        rng, centres = random.Random(seed), self.centres()
        for _ in range(count):
            centre = rng.choice(centres)
            near = [at + _NOISE * (rng.random() + rng.random() - 1) * 2.45 for at in centre]
            yield orjson.dumps([round(one, 5) for one in near]).decode()

    def questions(self) -> list[str]:
        return list(self.vectors(self.seed + 2, self.queries))


def fill(url: str, work: Workload) -> float:
    """Put the items in; returns the seconds."""
    started = perf_counter()
    names = [f"g{number % _GROUPS}.u{number // _GROUPS % _USERS}" for number in range(work.items)]
    with psycopg.connect(url, autocommit=True) as database, database.cursor() as cursor:
        with cursor.copy("COPY store (prefix, key, value) FROM STDIN") as copy:
            for number, name in enumerate(names):
                copy.write_row((name, f"k{number}", f'{{"text": "item {number}"}}'))
        columns = "prefix, key, field_name, embedding"
        with cursor.copy(f"COPY store_vectors ({columns}) FROM STDIN") as copy:
            vectors = work.vectors(work.seed + 1, work.items)
            for number, (name, vector) in enumerate(zip(names, vectors, strict=True)):
                copy.write_row((name, f"k{number}", "text", vector))
        cursor.execute("VACUUM ANALYZE store")
        cursor.execute("VACUUM ANALYZE store_vectors")
    return perf_counter() - started


@dataclass(frozen=True)
class Found:
    """The keys of each search, and its milliseconds."""

    keys: list[set[str]]
    milliseconds: list[float]
    plans: dict[str, int]

    def figures(self, right: "Found") -> dict[str, Any]:
        shares = [
            len(mine & all_right) / len(all_right)
            for mine, all_right in zip(self.keys, right.keys, strict=True)
            if all_right
        ]
        return {
            "recall_at_10": round(sum(shares) / len(shares), 4),
            "p50_ms": significant(percentile(self.milliseconds, 0.5)),
            "p99_ms": significant(percentile(self.milliseconds, 0.99)),
            "plans": self.plans,
        }


class Searcher:
    """Searches as the store does, with an index of one kind."""

    def __init__(self, pool: SharedPool, index: VectorIndex, home: str) -> None:
        self._registry = CollectorRegistry()
        metrics = IndexMetrics(Declarations(self._registry))
        self._search = SemanticSearch(
            pool,
            index,
            home,
            IndexSettings(),
            metrics,
            acquire_timeout_seconds=30,
            operation_timeout_seconds=120,
        )

    async def ask(self, namespace: str, questions: Sequence[str]) -> Found:
        page, scope = HitPage(_LIMIT, 0, 1 << 30), Scope(namespace)
        for question in questions[:3]:
            await self._search.hits(scope, question, page)
        before, keys, took = self._plans(), [], []
        for question in questions:
            started = perf_counter()
            hits = await self._search.hits(scope, question, page)
            took.append((perf_counter() - started) * 1000)
            keys.append({hit.key for hit in hits})
        after = self._plans()
        plans = {plan: after[plan] - before[plan] for plan in after if after[plan] - before[plan]}
        return Found(keys, took, plans)

    def _plans(self) -> dict[str, int]:
        name = "headrace_semantic_search_seconds_count"
        return {
            plan: int(self._registry.get_sample_value(name, {"plan": plan}) or 0)
            for plan in ("narrow", "index", "exact")
        }


#: A search below each: all items, a tenth, a thousandth.
_SCOPES = {"whole store": "", "a tenth of it": "g3", "a thousandth of it": "g3.u7"}


async def _measure_kind(
    pool: SharedPool, index: VectorIndex, questions: Sequence[str], right: dict[str, Found]
) -> dict[str, Any]:
    """Make the index, ask, and drop the index. Without an index, ``right`` is filled."""
    async with pool.connection() as connection:
        home = (await read_vector_tables(connection)).home
        started = perf_counter()
        await make_ann_index(connection, "store_vectors", "measured_idx", index, home)
        built = perf_counter() - started
        cursor = await connection.execute(
            "SELECT coalesce(pg_relation_size(to_regclass('measured_idx')), 0)"
        )
        ((size,),) = await cursor.fetchall()
    searcher = Searcher(pool, index, home)
    told: dict[str, Any] = {}
    if index.kind != "flat":
        told |= {"build_seconds": significant(built), "index_megabytes": size // 2**20}
    for name, namespace in _SCOPES.items():
        found = await searcher.ask(namespace, questions)
        told[name] = found.figures(right.setdefault(name, found))
    async with pool.connection() as connection:
        await connection.execute("DROP INDEX IF EXISTS measured_idx")
    return told


async def _measure(url: str, work: Workload, kinds: Sequence[AnnKind]) -> dict[str, Any]:
    settings = DatabaseSettings(url=SecretStr(url))
    facts = await probe(login_of(settings))
    pool = build_pool(settings, behind_pooler=facts.behind_pooler)
    await pool.open(wait=True)
    right: dict[str, Found] = {}
    questions = work.questions()
    try:
        told: dict[str, Any] = {}
        every: list[AnnKind] = ["flat", *kinds]
        for kind in every:
            lists = (("lists", max(1, work.items // 1000)),) if kind == "ivfflat" else ()
            index = VectorIndex(work.dims, "none", kind=kind, options=lists)
            told[kind] = await _measure_kind(pool, index, questions, right)
        return told
    finally:
        await pool.close()


def measure(database: MeasuredDatabase, work: Workload, kinds: Sequence[AnnKind]) -> dict[str, Any]:
    """The figures of each kind of index, by namespace."""
    flat = VectorIndex(work.dims, "none", kind="flat")
    prepare_index(DatabaseSettings(url=SecretStr(database.url)), flat)
    filled = fill(database.url, work)
    return {
        "items": work.items,
        "dims": work.dims,
        "clusters": work.clusters,
        "queries": work.queries,
        "fill_seconds": significant(filled),
        "kinds": asyncio.run(_measure(database.url, work, kinds)),
    }


def main(arguments: Sequence[str]) -> int:
    """The exit code: 1 if an index finds less than ``--floor`` of what is right."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.semantic", description=__doc__)
    parser.add_argument("--url", help="a server to make a database on; default: an embedded one")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dims", type=int, default=384)
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument(
        "--kinds", nargs="*", choices=("hnsw", "ivfflat"), default=["hnsw", "ivfflat"]
    )
    parser.add_argument("--floor", type=float, default=0.9, help="least recall of hnsw")
    parser.add_argument("--note", default="", help="kept with the result")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of semantic.json")
    options = parser.parse_args(arguments)
    work = Workload(options.items, options.dims, options.clusters, options.queries)
    with measured_database(options.url) as database:
        found = {"note": options.note, **measure(database, work, options.kinds)}
    write_result("semantic", found, folder=options.results)
    missed = False
    for kind, scopes in found["kinds"].items():
        for name in _SCOPES:
            one = scopes[name]
            missed |= kind == "hnsw" and one["recall_at_10"] < options.floor
            sys.stdout.write(
                f"{kind:8} {name:20} recall {one['recall_at_10']:.3f}"
                f"  p50 {one['p50_ms']:8.1f} ms  p99 {one['p99_ms']:8.1f} ms  {one['plans']}\n"
            )
    return int(missed)


if __name__ == "__main__":
    stop_all_on_termination()
    sys.exit(main(sys.argv[1:]))
