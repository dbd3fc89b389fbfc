"""One drive in a process of its own, which is nice to the server: it is to be attacked with what it
is sent, not with what the machine lacks.

``python -m tests.attack.drive ROW SECONDS SCALE < address``; the tally goes to the output.
"""

import asyncio
import os
import resource
import sys
import traceback

from tests.attack.address import Address
from tests.attack.attacker import Attacker
from tests.attack.rows.table import ROWS
from tests.attack.tally import Tally

_NICE = 5
#: What is open when the time is over has this long to end.
_LATE_SECONDS = 45.0


async def _drive(number: int, seconds: float, scale: float, address: Address) -> Tally:
    attacker = Attacker(address, seconds=seconds, scale=scale)
    try:
        async with asyncio.timeout(seconds + _LATE_SECONDS):
            await ROWS[number].drive(attacker)
    except TimeoutError:
        attacker.tally.judge(False, f"the drive was not over {_LATE_SECONDS:g} s after its time")
    except Exception as error:
        # The rest of the row is not tried then, which is no success.
        traceback.print_exc()
        attacker.tally.judge(False, f"the drive broke off: {error!r}"[:300])
    finally:
        await attacker.close()
    return attacker.tally


def main() -> None:
    number, seconds, scale = sys.argv[1:]
    os.nice(_NICE)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    address = Address.load(sys.stdin.read())
    print(asyncio.run(_drive(int(number), float(seconds), float(scale), address)).dump())


if __name__ == "__main__":
    main()
