"""``make growth``: what grows with what; JSON, charts, and the floors.

Ends with 1 when a floor is missed in the long form.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtests.growth.conversations import turn_costs
from loadtests.growth.costs import Costs
from loadtests.growth.report import judged, write
from loadtests.growth.stored import open_streams, queue_length, runs_stored
from loadtests.growth.threads import build_threads
from loadtests.measuring import machine
from loadtests.measuring.database import MeasuredDatabase, fresh_database, postgres
from loadtests.measuring.figures import judged_lines, missed
from loadtests.measuring.servers import headrace_server, write_manifest

_GRAPHS = Path(__file__).with_name("graphs.py")

#: By part: lengths of conversations in the long form and in the short one.
_LENGTHS = {
    "chat": ((10, 100, 1_000, 10_000), (10, 100)),
    "chat_whole_answer": ((10, 100, 1_000, 10_000), (10, 100)),
    "messages_state": ((10, 30, 100, 300, 1_000), (10, 30)),
}
#: Rows, pending runs and streams, likewise.
_COUNTS = {
    "runs_stored": ((1_000, 10_000, 100_000, 1_000_000), (10, 100)),
    "queue_length": ((10, 1_000, 10_000, 100_000), (1, 10)),
    "open_streams": ((1, 100, 1_000), (1, 3)),
}
#: Only so many runs have rows of the saver: ten kilobytes each.
_MOST_CHECKPOINTS = 100_000


def say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


def conversations(
    database: MeasuredDatabase, folder: Path, part: str, options: argparse.Namespace
) -> dict[str, Any]:
    """One part of ``conversations``; each has a server of its own, so that none warms another."""
    lengths = options.lengths or _LENGTHS[part][1 if options.short else 0]
    graph = "messages_state" if part == "messages_state" else "chat"
    threads = asyncio.run(
        build_threads(database.url, graph, lengths, rounds=options.rounds, at_once=graph != "chat")
    )
    database.analyze()
    manifest = _manifest(folder)
    with headrace_server(
        database.url,
        manifest=manifest,
        folder=folder,
        settings={"HEADRACE_CHAT_GRAPH": "chat"},
    ) as server:
        _adopt(server, threads.values())
        return turn_costs(
            Costs(server, database),
            part,
            threads,
            rounds=options.rounds,
            turns=options.turns,
            say=say,
        )


def beside(
    database: MeasuredDatabase, folder: Path, part: str, options: argparse.Namespace
) -> dict[str, Any]:
    """A run beside what is stored, waits or is open."""
    counts = options.lengths or _COUNTS[part][1 if options.short else 0]
    # Each open stream has a run that waits: all of them need a place, and the measured runs too.
    places = {"HEADRACE_WORKER__MAX_CONCURRENT_RUNS": str(max(counts) + 10)}
    with headrace_server(
        database.url,
        manifest=_manifest(folder),
        folder=folder,
        settings=places if part == "open_streams" else None,
    ) as server:
        given = {"operations": options.turns, "say": say}
        if part == "queue_length":
            return queue_length(server, database, counts, **given)
        if part == "open_streams":
            return open_streams(server, database, counts, **given)
        return runs_stored(server, database, counts, most_checkpoints=_MOST_CHECKPOINTS, **given)


def _manifest(folder: Path) -> Path:
    names = ("chat", "messages_state", "quiet")
    return write_manifest(folder, {name: f"{_GRAPHS}:{name}" for name in names})


def _adopt(server: Any, threads: Any) -> None:
    for ids in threads:
        for thread_id in ids:
            status, told = server.ask(
                "POST", "/threads", {"thread_id": thread_id, "if_exists": "do_nothing"}
            )
            if status != 200:
                raise RuntimeError(f"{status} {told}")


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.growth", description=__doc__)
    parser.add_argument("--short", action="store_true", help="whether everything works; no figures")
    parser.add_argument("--only", action="append", choices=[*_LENGTHS, *_COUNTS])
    parser.add_argument("--lengths", type=int, nargs="+", help="turns of the conversations")
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--turns", type=int, default=None, help="turns of each conversation")
    parser.add_argument("--results", type=Path, default=None, help="where growth.json goes")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.short else 5)
    options.turns = options.turns or (3 if options.short else 20)
    found: dict[str, Any] = {"machine": machine.facts()}
    with (
        postgres(os.environ.get("DATABASE_URL")) as admin_url,
        tempfile.TemporaryDirectory(prefix="headrace-growth-") as folder,
    ):
        for part in options.only or (*_LENGTHS, *_COUNTS):
            with fresh_database(admin_url) as database:
                found.setdefault("postgres", database.facts())
                measure = conversations if part in _LENGTHS else beside
                found[part] = measure(database, Path(folder), part, options)
    rows = judged(found)
    for line in (*write(found, options.results, short=options.short), *judged_lines(rows)):
        sys.stdout.write(f"{line}\n")
    return 1 if missed(rows) and not options.short else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
