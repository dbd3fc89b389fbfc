"""``make bench``: contenders side by side, a table on the terminal, JSON and a chart in files.

Ends with 1 when a contender lost something it had acknowledged, or a part could not be measured.
"""

import gc
import os
import sys
from collections.abc import Mapping

import uvloop

from loadtests.bench.contenders import CONTENDERS, Entrant
from loadtests.bench.options import options_from
from loadtests.bench.parts import Parts
from loadtests.bench.report import write
from loadtests.bench.slow_database import NotSlow
from loadtests.bench.verify import LostWrites
from loadtests.measuring.database import measured_database
from loadtests.measuring.servers import stop_in_order


def main(environ: Mapping[str, str], known: Mapping[str, Entrant] = CONTENDERS) -> int:
    """The exit code.

    :param known: who may be measured, by name.
    """
    # A developer's shell may send every run to a tracing service: time that no saver takes.
    os.environ.update({"LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false"})
    try:
        options = options_from(environ, known)
    except ValueError as error:
        _say(str(error))
        return 2
    stop_in_order()
    # As headrace's server processes do before they are forked (ADR 9), for all contenders.
    gc.collect()
    gc.freeze()
    try:
        with measured_database(environ.get("DATABASE_URL")) as database:
            result = uvloop.run(Parts(database, options, known, say=_say).measure())
    except (LostWrites, NotSlow) as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    write(result, options)
    return 0


def _say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


if __name__ == "__main__":
    sys.exit(main(os.environ))
