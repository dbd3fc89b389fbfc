"""The settings of shares: what one of several callers may use."""

from pydantic import Field

from headrace.setting_groups import Group


class CallerSettings(Group):
    """The limits of one caller. Keys, tokens and handlers tell callers apart (docs/limits.md)."""

    share: float = Field(
        0.75,
        gt=0,
        le=1,
        description="A caller may hold this part of the places that it holds and those that are"
        " free: places for runs, lists, changes, streams and waits, and memory for bodies. 1 lets"
        " one caller take all. While there is only one caller (docs/limits.md), it may take all,"
        " except requests to and WebSockets of an app of your own.",
    )
    max_queued_runs: int = Field(
        100_000,
        ge=1,
        description="Runs of one caller that may wait in the queue; more get 429. Counted every"
        " 5 s, so a few more may get in. Callers whom no key, token or handler names count as one.",
    )
    max_running_runs: int = Field(
        0,
        ge=0,
        description="Runs of one caller that a process executes at once; more wait in the queue. 0:"
        " its share of `worker.max_concurrent_runs`.",
    )
    max_open_answers: int = Field(
        0,
        ge=0,
        description="Streams, waits and joins of one caller that a process keeps open; more get"
        " 429. 0: its share of `server.max_connections`.",
    )
    max_thread_streams: int = Field(
        0,
        ge=0,
        description="Streams of whole threads with their WebSockets, and as many WebSockets of an"
        " app of your own, of one caller that a process keeps open; more get 429. 0: its share of"
        " `events.max_thread_streams`, and of `server.max_app_sockets`.",
    )
    requests_per_second: float = Field(
        5000.0,
        ge=0,
        description="Requests of one caller a second, in each process, on average; more get 429."
        " 0: no limit.",
    )
    burst_seconds: float = Field(
        2.0,
        gt=0,
        description="A caller that was silent may send the requests of so many seconds at once.",
    )
    requests_at_once: int = Field(
        64,
        ge=2,
        description="Requests that a process works on at once, where there are several callers;"
        " each caller has its share. The others wait for their turn, 15 s at most; then 429.",
    )
