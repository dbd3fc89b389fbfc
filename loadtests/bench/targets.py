"""What headrace is held to: a floor that must not be missed, a goal beyond it."""

from loadtests.measuring.figures import Target

#: Runs at once and durability for which the targets hold.
SAID = "medians, 32 concurrent, durability async, one process"

_LONE = Target(1.0, 0.7, lower_is_better=True)
_OTHER = {
    "vs_upstream_pool": Target(2.5, 4.0),
    "vs_tutorial": Target(2.5, 4.0),
    "lone_p50_vs_upstream": _LONE,
}

#: By workload and ratio.
RATIOS: dict[str, dict[str, Target]] = {
    "trivial": {
        "vs_upstream_pool": Target(3.5, 5.0),
        "vs_tutorial": Target(3.5, 4.5),
        "vs_memory": Target(0.7, 0.9),
        "lone_p50_vs_upstream": _LONE,
    },
    "ten_step": _OTHER,
    "long_thread": _OTHER,
    "tutorial": _OTHER,
}

#: Transactions of a trivial run, its read included.
LONE_TRANSACTIONS = Target(3.0, 2.0, lower_is_better=True)
CONCURRENT_TRANSACTIONS = Target(1.0, lower_is_better=True)

#: p99 of a small put beside large ones, against quiet.
LARGE_VALUES = Target(2.0, lower_is_better=True)

#: Bytes of a late turn against an early one, for the built-in chat graph.
GROWTH = Target(2.0, lower_is_better=True)
