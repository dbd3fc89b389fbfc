"""``make compare``: servers side by side over HTTP; a table, JSON, a chart.

Ends with 1 when a floor is missed, or when a server of this repository could not be measured. The
short form measures once more if a floor is missed, and judges only that.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping

import psycopg

from loadtests.bench.way import way
from loadtests.compare.comparison import Compared, Comparison, say
from loadtests.compare.contenders import CONTENDERS
from loadtests.compare.options import CompareOptions, options_from
from loadtests.compare.report import write
from loadtests.compare.targets import Bound, judged
from loadtests.measuring import machine
from loadtests.measuring.database import fresh_database, postgres
from loadtests.measuring.figures import Judged, judged_lines, missed
from loadtests.measuring.servers import NotServing, stop_in_order


def main(environ: Mapping[str, str]) -> int:
    """The exit code."""
    try:
        options = options_from(environ)
    except ValueError as error:
        say(str(error))
        return 2
    stop_in_order()
    facts: dict[str, object] = {"machine": machine.facts()}
    try:
        with postgres(environ.get("DATABASE_URL")) as admin_url:
            with fresh_database(admin_url, migrated=False) as database:
                told = asyncio.run(way(database.url))
                facts["postgres"] = {**database.facts(), **told}
            bound = Bound(told["commit_ms"], options.connections)
            found, rows, before = measured(
                lambda: Comparison(options, admin_url).run(), bound, options
            )
            if before:
                facts["judged_before"] = [row.plain() for row in before]
    except (NotServing, psycopg.Error) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    for line in write(found, rows, bound, options, facts):
        sys.stdout.write(f"{line}\n")
    ours = any(CONTENDERS[name].environment is None for name in found.left_out)
    return 1 if ours or missed(rows) else 0


def measured(
    measure: Callable[[], Compared], bound: Bound, options: CompareOptions
) -> tuple[Compared, list[Judged], list[Judged]]:
    """What was found, its judgement, and that of an earlier measurement which missed a floor.

    If ``options.repeats``, a missed floor has all measured once more, and only that counts. What
    could not be measured is not tried again.
    """
    found = measure()
    rows = judged(found, bound, options.share, options.rate_share)
    if not options.repeats or found.left_out or not missed(rows):
        return found, rows, []
    say("A floor is missed: all is measured once more, and that is judged. Until now:")
    for line in judged_lines(rows):
        say(line)
    again = measure()
    return again, judged(again, bound, options.share, options.rate_share), rows


if __name__ == "__main__":
    sys.exit(main(os.environ))
