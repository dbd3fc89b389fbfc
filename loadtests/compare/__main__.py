"""``make compare``: servers side by side over HTTP; a table, JSON, a chart.

Ends with 1 when a floor is missed, or when a server of this repository could not be measured.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping

from loadtests.bench.way import way
from loadtests.compare.comparison import Comparison, say
from loadtests.compare.contenders import CONTENDERS
from loadtests.compare.options import options_from
from loadtests.compare.report import write
from loadtests.compare.targets import Bound, judged
from loadtests.measuring import machine
from loadtests.measuring.database import fresh_database, postgres
from loadtests.measuring.figures import missed
from loadtests.measuring.servers import NotServing


def main(environ: Mapping[str, str]) -> int:
    """The exit code."""
    try:
        options = options_from(environ)
    except ValueError as error:
        say(str(error))
        return 2
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    facts: dict[str, object] = {"machine": machine.facts()}
    try:
        with postgres(environ.get("DATABASE_URL")) as admin_url:
            with fresh_database(admin_url, migrated=False) as database:
                told = asyncio.run(way(database.url))
                facts["postgres"] = {**database.facts(), **told}
            found = Comparison(options, admin_url).run()
    except NotServing as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    bound = Bound(told["commit_ms"], options.connections)
    rows = judged(found, bound, options.share)
    for line in write(found, rows, bound, options, facts):
        sys.stdout.write(f"{line}\n")
    ours = any(CONTENDERS[name].environment is None for name in found.left_out)
    return 1 if ours or missed(rows) else 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
