"""All rows, in order."""

from tests.attack.rows import (
    Row,
    canaries,
    filters,
    framing,
    injection,
    places,
    strangers,
    streams,
    values,
)

ROWS = {
    row.number: row
    for row in (
        Row(1, "ids of events, rows and graphs that break shared loops", streams.spoil_loops),
        Row(2, "filters on values against 50,000 items", filters.compare),
        Row(3, "filters on metadata that Postgres compares", filters.contain),
        Row(4, "requests without end, no key", strangers.endless),
        Row(5, "every method on every path, loops on /metrics, no key", strangers.wander),
        Row(
            6,
            "thousands of silent and half-sent requests at 1,024 files, no key",
            strangers.occupy,
            open_files=1024,
            health=True,
        ),
        Row(7, "lists of millions of items in every field", filters.repeat),
        Row(8, "tool calls that nest deep, blobs that cannot be read", values.spoil_pages),
        Row(9, "pages of large states and histories", values.read_much),
        Row(10, "threads of 1,000 supersteps each", places.supersteps),
        Row(11, "600 waits with one Idempotency-Key", places.one_key),
        Row(12, "large metadata and configurations, secrets in them", filters.configure),
        Row(13, "commands and updates that reducers refuse", values.command),
        Row(14, "states of 300 MB", values.overflow),
        Row(
            15,
            "endless and deaf runs, thread streams, a full queue",
            places.occupy,
            settings={
                "HEADRACE_CALLERS__MAX_QUEUED_RUNS": "10000",
                "HEADRACE_EVENTS__MAX_THREAD_STREAMS": "1000",
            },
        ),
        Row(16, "events of 50 MB to quick, slow and stalled readers", streams.large_events),
        Row(17, "secrets everywhere, forged log lines", canaries.plant),
        Row(18, "SQL, paths and operators in every field that searches", injection.search),
        Row(19, "ends of lines in all that a stream repeats", injection.break_lines),
        Row(20, "deep bodies on every route, bodies of 1 GB by chunks", framing.sink),
        Row(21, "requests within requests, no key", framing.smuggle),
    )
}
