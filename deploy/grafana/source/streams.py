"""Streams: do watchers get events at once, and why do streams break off?"""

from deploy.grafana.source.boards import Board, Row
from deploy.grafana.source.panels import (
    A_SECOND,
    BYTES,
    BYTES_A_SECOND,
    NUMBER,
    REQUESTS_A_SECOND,
    SECONDS,
    events,
    figures,
    graph,
    verdict,
)
from deploy.grafana.source.queries import (
    LONG_ROUTES,
    Line,
    counted_by,
    extremes,
    greatest,
    least,
    or_zero,
    over_processes,
    percentiles,
    quantile,
    rate,
    rate_by,
    total,
)

_NOW = Row(
    "Now",
    (
        figures(
            "Streams open",
            "Streams that clients read now. A fall to 0 at once: a load balancer, a deploy or the"
            " network cut them.",
            NUMBER,
            Line(total("headrace_streams_open"), "streams"),
        ),
        figures(
            "Cut",
            "Streams that ended without their proper end, a minute. The panel by reason below says"
            " whose doing it is.",
            NUMBER,
            Line(f"60 * {or_zero(rate('headrace_streams_cut_total'))}", "a minute"),
            worry=1,
            trouble=30,
            runbook="streams-cut",
        ),
        figures(
            "First event",
            "Seconds from a run's creation to its first event.",
            SECONDS,
            Line(quantile(0.5, "headrace_run_first_event_seconds"), "p50"),
            Line(quantile(0.95, "headrace_run_first_event_seconds"), "p95"),
            worry=2,
            trouble=10,
            runbook="first-event-slow",
        ),
        verdict(
            "Notices",
            "Whether every process hears of changes at once. polling: at least one finds them only"
            " by asking once a second, as it must behind a pooler.",
            Line(least("headrace_notices_connected_min"), "all processes"),
            good="at once",
            bad="polling",
            runbook="listener-down",
        ),
        figures(
            "Events that wait",
            "Bytes of events that wait for readers, in the process with most. At"
            " HEADRACE_EVENTS__BUFFER_TOTAL_BYTES runs wait for slow clients.",
            BYTES,
            Line(greatest("headrace_events_waiting_max_bytes"), "fullest process"),
        ),
        figures(
            "Connections",
            "Open connections of clients, of all and of the fullest process. Near"
            " HEADRACE_SERVER__MAX_CONNECTIONS new ones are refused.",
            NUMBER,
            Line(total("headrace_connections_open"), "all"),
            Line(greatest("headrace_connections_open_max"), "fullest process"),
        ),
    ),
)

_STREAMS = Row(
    "Streams and waits",
    (
        graph(
            "Open",
            "Streams of all processes, and of those with most and least. Least at 0 for long while"
            " most is high: a load balancer sends everything to one process.",
            NUMBER,
            *over_processes("headrace_streams_open"),
        ),
        events(
            "Cut, by reason",
            "client_left: the client or the network. slow_client: it read too slowly. drain: a"
            " deploy. fault: headrace; look at the log.",
            counted_by("headrace_streams_cut_total", "reason"),
            runbook="streams-cut",
        ),
        graph(
            "First byte of streams and waits",
            "Seconds until a stream or a wait has its head, which is when its run is accepted. It"
            " rises: the pool, the event loop, or the database that commits the start.",
            SECONDS,
            *percentiles("headrace_http_first_byte_seconds", LONG_ROUTES),
        ),
        graph(
            "Asked for",
            "Streams and waits that ended a second, by route. Many short ones: clients that join"
            " again and again.",
            REQUESTS_A_SECOND,
            Line(rate("headrace_http_requests_total", LONG_ROUTES, by="route"), "{{route}}"),
            stacked=True,
        ),
        graph(
            "Bytes sent",
            "Bytes a second that answers bring to clients, of the ten routes with most.",
            BYTES_A_SECOND,
            Line(
                f"topk(10, {rate('headrace_http_response_bytes_total', by='route')})", "{{route}}"
            ),
        ),
        graph(
            "Time to a run's first event",
            "Seconds from a run's creation to the first event of its graph, whether or not"
            " somebody watches.",
            SECONDS,
            *percentiles("headrace_run_first_event_seconds"),
            runbook="first-event-slow",
        ),
    ),
)

_EVENTS = Row(
    "Events on their way",
    (
        graph(
            "Waiting for readers",
            "Bytes of events that clients have not taken yet. One process far above the others:"
            " one slow client.",
            BYTES,
            Line(total("headrace_events_waiting_bytes"), "all processes"),
            *extremes("headrace_events_waiting", unit="_bytes"),
        ),
        graph(
            "Events stored",
            "Events a second that are stored for later readers, or for readers at another process.",
            A_SECOND,
            Line(or_zero(rate("headrace_events_stored_total")), "stored"),
        ),
        graph(
            "Watched elsewhere",
            "Streams of runs that another process executes, and streams of whole threads. Each"
            " costs a share of a query.",
            NUMBER,
            Line(total("headrace_runs_watched"), "runs"),
            Line(total("headrace_threads_watched"), "threads"),
        ),
        graph(
            "Notices",
            "Notices between processes a second. received stands still while sent grows: the"
            " listener is down, and watchers are late by up to a second.",
            A_SECOND,
            rate_by("headrace_notices_total", "direction"),
            runbook="listener-down",
        ),
        graph(
            "Processes that hear notices",
            "1: every process of that pod is connected. Least at 0: one finds changes by polling"
            " alone.",
            NUMBER,
            *extremes("headrace_notices_connected"),
            runbook="listener-down",
        ),
        graph(
            "Large answers and bodies",
            "Memory that large answers and request bodies take. At its limit further ones wait,"
            " and then get 503.",
            BYTES,
            Line(total("headrace_answers_bytes"), "answers"),
            Line(total("headrace_bodies_bytes"), "bodies"),
        ),
    ),
)

_CLIENTS = Row(
    "Clients",
    (
        events(
            "Slow clients",
            "Streams cut because their client did not read, by reason.",
            counted_by("headrace_slow_clients_cut_total", "reason"),
            span=6,
        ),
        events(
            "Connections cut",
            "Connections refused or closed before their time. refused, made_room: the bound of"
            " connections. Timeouts: slow clients, or an attack.",
            counted_by("headrace_connections_cut_total", "reason"),
            span=6,
        ),
        events(
            "Answers and bodies bounded",
            "Answers that were shortened or refused for their size, and request bodies refused for"
            " want of memory.",
            counted_by("headrace_bounded_answers_total", "outcome", prefix="answer: "),
            counted_by("headrace_refused_bodies_total", "reason", prefix="body: "),
            span=6,
        ),
        events(
            "Requests with a key, sent again",
            "Requests with an Idempotency-Key. repeated and resumed grow: clients do not get their"
            " answers; look for timeouts on the way.",
            counted_by("headrace_keyed_requests_total", "outcome"),
            span=6,
        ),
    ),
)

STREAMS = Board(
    "streams",
    "Streams",
    "Do watchers get events at once, and why do streams break off?",
    (_NOW, _STREAMS, _EVENTS, _CLIENTS),
)
