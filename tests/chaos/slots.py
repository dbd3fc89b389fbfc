"""Whether the slots of crons got their runs: one each, and none was passed over. Pure.

The schedule of each cron is every second. A process that finds a slot late passes over those up to
now. So between a run and the next one no slot may be missing that is later than when the first of
the two was made.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from math import floor

from tests.chaos.history import Firing, History

#: So long before its deletion a cron may have had its last run: a fault may last that long, and
#: what a lost process had taken is taken again later.
_SILENT_SECONDS = 30.0


def slots_of_crons(history: History) -> Iterator[str]:
    firings: dict[str, list[Firing]] = defaultdict(list)
    for one in sorted(history.final.firings, key=lambda one: (one.slot, one.made_at)):
        firings[one.cron_id].append(one)
    for cron_id, own in firings.items():
        for before, after in pairwise(own):
            if before.slot == after.slot:
                yield f"cron {cron_id}: two runs for the slot {before.slot:.0f}"
            elif after.slot > max(floor(before.made_at), before.slot) + 1:
                yield (
                    f"cron {cron_id}: after the slot {before.slot:.0f}, made at"
                    f" {before.made_at:.3f}, comes {after.slot:.0f}"
                )
    for asked in history.asked:
        if asked.cron_id is None or asked.accepted_at is None or asked.deleted_at is None:
            continue
        last = max((one.made_at for one in firings[asked.cron_id]), default=asked.accepted_at)
        if asked.deleted_at - last > _SILENT_SECONDS:
            yield f"cron {asked.cron_id} made no run for {asked.deleted_at - last:.0f} s"
