"""Crons & webhooks: are runs made when they are due, and do receivers learn of their ends?"""

from deploy.grafana.source.boards import Board, Row
from deploy.grafana.source.panels import (
    A_SECOND,
    NUMBER,
    SECONDS,
    SHARE,
    events,
    figures,
    graph,
)
from deploy.grafana.source.queries import (
    Line,
    counted_by,
    greatest,
    or_zero,
    percentiles,
    rate,
    rate_by,
    series,
    share,
    times,
)

_SLOTS = "headrace_cron_slots_total"
_CALLS = "headrace_webhook_calls_total"
_DISABLED = series(_SLOTS, 'outcome="disabled"')

_NOW = Row(
    "Now: late crons and messages are of all pods together",
    (
        figures(
            "Latest cron",
            "Seconds since the oldest slot without a run was due. Above some seconds: no process"
            " makes runs of crons, or the owner has too many runs in the queue.",
            SECONDS,
            Line(greatest("headrace_oldest_cron_overdue_seconds"), "late"),
            worry=10,
            trouble=60,
            runbook="crons-late",
        ),
        figures(
            "Crons late",
            "Crons whose slot has passed without its run. Many for a moment: they have the same"
            " minute.",
            NUMBER,
            Line(greatest("headrace_crons_overdue"), "crons"),
            worry=50,
            trouble=1000,
            runbook="crons-late",
        ),
        figures(
            "Crons disabled",
            "Crons that headrace disabled within the time that is shown, because their assistant"
            " is gone. Their owners are not told.",
            NUMBER,
            Line(or_zero(f"sum(increase({_DISABLED}[$__range]))"), "crons"),
            worry=1,
            runbook="crons-disabled",
        ),
        figures(
            "Oldest message",
            "Seconds since the oldest message of a webhook should have been sent. Receivers that"
            " hang or are slow, or too few calls at once.",
            SECONDS,
            Line(greatest("headrace_oldest_webhook_overdue_seconds"), "late"),
            worry=10,
            trouble=60,
            runbook="webhooks-late",
        ),
        figures(
            "Messages late",
            "Messages of webhooks that should have been sent. What waits for its next call after a"
            " failed one is not in it.",
            NUMBER,
            Line(greatest("headrace_webhooks_overdue"), "messages"),
            worry=100,
            trouble=1000,
            runbook="webhooks-late",
        ),
        figures(
            "Calls that fail",
            "Share of the calls of receivers that failed. The panel by outcome below says whether"
            " messages were given up.",
            SHARE,
            Line(share(rate(_CALLS, 'outcome!="sent"'), rate(_CALLS)), "calls"),
            worry=0.1,
            trouble=0.5,
            runbook="webhooks-dead",
        ),
    ),
)

_CRONS = Row(
    "Crons",
    (
        events(
            "Slots",
            "What became of due slots, within each step of the picture. fired: the run is queued."
            " busy, refused: skipped. postponed: tried again. taken: another process was first.",
            counted_by(_SLOTS, "outcome"),
            runbook="crons-late",
        ),
        graph(
            "How late runs are made",
            "Seconds from a slot until its run was queued. It rises at full minutes: many crons"
            " are due at once.",
            SECONDS,
            *percentiles("headrace_cron_late_seconds"),
            runbook="crons-late",
        ),
        graph(
            "Crons that are late",
            "Crons without the run of a slot that has passed, and for how many seconds the first.",
            NUMBER,
            Line(greatest("headrace_crons_overdue"), "crons"),
            Line(greatest("headrace_oldest_cron_overdue_seconds"), "seconds of the first"),
            runbook="crons-late",
        ),
    ),
)

_WEBHOOKS = Row(
    "Webhooks",
    (
        graph(
            "Calls",
            "Calls of receivers a second, by what became of the message. retried grows: receivers"
            " fail. dead: messages were given up.",
            A_SECOND,
            rate_by(_CALLS, "outcome"),
            stacked=True,
            runbook="webhooks-dead",
        ),
        graph(
            "Duration of calls",
            "Seconds of a call, failed or not. Near the limit of time: receivers hang, or work"
            " before they answer.",
            SECONDS,
            *percentiles("headrace_webhook_call_seconds"),
            runbook="webhooks-late",
        ),
        graph(
            "From the end of a run to its receiver",
            "Seconds until the receiver has answered with success, failed calls before included.",
            SECONDS,
            *percentiles("headrace_webhook_delivery_seconds"),
            runbook="webhooks-late",
        ),
        graph(
            "Messages that are late",
            "Messages that should have been sent, and for how many seconds the first one. It grows"
            " without end: more messages come than receivers take.",
            NUMBER,
            Line(greatest("headrace_webhooks_overdue"), "messages"),
            Line(greatest("headrace_oldest_webhook_overdue_seconds"), "seconds of the first"),
            span=12,
            runbook="webhooks-late",
        ),
        events(
            "Messages given up",
            "Each is in the list of headrace webhooks list, and can be sent again from there.",
            Line(or_zero(times(_CALLS, 'outcome="dead"')), "given up"),
            span=12,
            runbook="webhooks-dead",
        ),
    ),
)

CRONS_AND_WEBHOOKS = Board(
    "crons-and-webhooks",
    "Crons & webhooks",
    "Are runs of crons made when they are due, and do receivers learn that runs have ended?",
    (_NOW, _CRONS, _WEBHOOKS),
)
