"""The groups of settings: typed fields with defaults. This module reads nothing."""

import re
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: The APIs of other protocols that headrace can serve.
Door = Literal["openai", "mcp", "a2a"]
DOORS: tuple[Door, ...] = get_args(Door)
#: A base of URLs, without a user, a query or a fragment.
_ADDRESS = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")


def comma_separated(text: str) -> tuple[str, ...]:
    """The parts of a setting that are separated by commas, without the empty ones."""
    return tuple(part for one in text.split(",") if (part := one.strip()))


class Group(BaseModel):
    # An error repeats no value: it may be a secret.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ServerSettings(Group):
    """HTTP limits and the order of shutdown."""

    max_body_bytes: int = Field(8 * 1024 * 1024, ge=1024, description="Larger bodies get 413.")
    max_request_line_bytes: int = Field(
        16 * 1024, ge=1024, description="Requests with a longer URL get 414."
    )
    max_headers: int = Field(
        100, ge=16, description="Requests with more headers, or more trailers, get 431."
    )
    max_header_bytes: int = Field(
        32 * 1024, ge=1024, description="Requests with more bytes of headers get 431."
    )
    max_connections: int = Field(
        4000,
        ge=1,
        description="Connections of one process, fewer where the limit of open files is lower."
        " Beyond it the one that has been without a request longest is closed; where there is none,"
        " the new one gets 503. So many requests to an app of your own (`http.app`) are answered at"
        " once as a quarter of it.",
    )
    header_timeout_seconds: float = Field(
        15.0,
        gt=0,
        description="A new connection, or a request that has begun, without its whole head after"
        " this long is closed (408).",
    )
    body_timeout_seconds: float = Field(
        30.0,
        gt=0,
        description="A body that brings nothing for this long is refused (408).",
    )
    unread_timeout_seconds: float = Field(
        60.0,
        gt=0,
        description="A connection whose client reads nothing of an answer for this long is closed.",
    )
    keepalive_seconds: int = Field(
        75, ge=1, description="Idle keep-alive; keep it above the load balancer's."
    )
    ping_seconds: float = Field(
        5.0,
        gt=0,
        description="An answer that has nothing to say sends a comment (SSE) or a newline (wait)"
        " this often. Was `HEADRACE_SERVER__HEARTBEAT_SECONDS`, which still works.",
    )
    drain_delay_seconds: float = Field(
        0.0, ge=0, description="Readiness is 503 this long before draining starts."
    )
    grace_seconds: float = Field(
        20.0, ge=0, description="How long runs and streams may go on after the drain delay."
    )
    shutdown_margin_seconds: float = Field(
        5.0, ge=1, description="Left after the grace for closing sockets and pool."
    )
    process_timeout_seconds: int = Field(
        90, ge=5, description="gunicorn kills a process whose event loop is silent this long."
    )
    stall_log_seconds: float = Field(
        2.0, gt=0, description="An event loop silent this long has its blocking frame logged."
    )
    api: bool = Field(
        True,
        description="Whether the API is served; `headrace worker` turns it off and keeps health"
        " and metrics.",
    )
    doors: str = Field(
        "",
        description="APIs of other protocols to serve too, separated by commas: `openai`, `mcp`,"
        " `a2a` ([doors.md](doors.md)).",
    )
    public_url: str = Field(
        "",
        description="The address at which clients reach this server, with the prefix of a proxy if"
        " there is one, for example `https://agents.example.com`. Agent cards name it. Empty: the"
        " address of the request, which the caller and the proxies before this server choose.",
    )
    websockets: bool = Field(
        True,
        description="Whether `/threads/{thread_id}/stream/events` takes WebSockets too.",
    )
    max_app_sockets: int = Field(
        1000,
        ge=1,
        description="WebSockets of an app of your own in one process, at most half of its"
        " connections. One caller, or one address where nobody asks who calls, has its share"
        " (`callers.share`) even if it is the only one; more get 429, and 503 if all are taken.",
    )
    socket_idle_seconds: float = Field(
        3600.0,
        ge=0,
        description="A WebSocket of an app of your own on which no message came or went for this"
        " long is closed with 1000. 0: never.",
    )
    slot_stale_seconds: float = Field(
        5.0, gt=0, description="A process silent this long makes /readyz 503."
    )

    @property
    def named_doors(self) -> frozenset[str]:
        """The doors of the setting."""
        return frozenset(comma_separated(self.doors))

    @model_validator(mode="after")
    def _usable_address(self) -> Self:
        if self.public_url and not _ADDRESS.fullmatch(self.public_url):
            raise ValueError("public_url: send http:// or https://, a host, and a prefix at most")
        return self

    @model_validator(mode="after")
    def _known_doors(self) -> Self:
        if unknown := sorted(self.named_doors - set(DOORS)):
            raise ValueError(f"doors: there is no {unknown[0]!r}; name some of {', '.join(DOORS)}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _earlier_name_of_trusted_proxies(cls, values: Any) -> Any:
        if isinstance(values, dict) and "forwarded_allow_ips" in values:
            raise ValueError(
                "server.forwarded_allow_ips is edge.trusted_proxies now, a list of networks; set"
                " HEADRACE_EDGE__TRUSTED_PROXIES instead of HEADRACE_SERVER__FORWARDED_ALLOW_IPS"
            )
        return values

    @property
    def graceful_timeout_seconds(self) -> int:
        """gunicorn's graceful_timeout: longer than the whole shutdown."""
        whole = self.drain_delay_seconds + self.grace_seconds + 2 * self.shutdown_margin_seconds
        return int(whole) + 1

    @model_validator(mode="before")
    @classmethod
    def _earlier_name_of_ping_seconds(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "heartbeat_seconds" not in values:
            return values
        kept = {name: value for name, value in values.items() if name != "heartbeat_seconds"}
        earlier = values["heartbeat_seconds"]
        if not _is_positive(earlier):
            raise ValueError(
                "server.heartbeat_seconds, the earlier name of server.ping_seconds, must be a"
                " number above 0"
            )
        if not _equal(kept.setdefault("ping_seconds", earlier), earlier):
            raise ValueError(
                "server.heartbeat_seconds is the earlier name of server.ping_seconds, and they"
                " differ; unset HEADRACE_SERVER__HEARTBEAT_SECONDS"
            )
        return kept

    @property
    def heartbeat_seconds(self) -> float:
        """The earlier name of ``ping_seconds``."""
        return self.ping_seconds


def _is_positive(value: Any) -> bool:
    try:
        return float(value) > 0
    except (TypeError, ValueError):
        return False


def _equal(one: Any, other: Any) -> bool:
    """Compare as numbers if both are numbers: environment variables are texts."""
    try:
        return float(one) == float(other)
    except (TypeError, ValueError):
        return bool(one == other)


class WorkerSettings(Group):
    """Runs and the lease of the process that executes them."""

    enabled: bool = Field(
        True,
        description="Whether runs are executed here; `headrace serve --no-worker` turns it off,"
        " and leaves them to others.",
    )
    max_concurrent_runs: int = Field(
        200, ge=1, description="Runs one process executes at once; more wait in the queue."
    )
    place_wait_seconds: float = Field(
        1.0,
        ge=0,
        description="How long a run that finds no free place may wait for one in its process before"
        " it is queued. It waits only where places become free quickly, and one is expected within"
        " this time; 0: it is queued at once.",
    )
    max_threads: int = Field(
        0,
        ge=0,
        description="Threads of one process for sync nodes and sync tools; 0: two for each of"
        " `max_concurrent_runs`, at least 64.",
    )
    deaf_seconds: float = Field(
        60.0,
        gt=0,
        description="How long runs that have ended, while their graph or a thread goes on, may hold"
        " all places of a process or half of its threads; then the process is replaced.",
    )
    max_failures: int = Field(
        3,
        ge=1,
        description="A run ends as `error` when so many processes were lost while executing it and"
        " it may be the cause. If a process had several runs, its loss ends none of them unless"
        " this is 1.",
    )
    apart_seconds: float = Field(
        10.0,
        ge=0,
        description="A run that two processes were lost with (one, if `max_failures` is 2) has a"
        " process to itself for so long, or for twice as long as it had been executed before, if"
        " that is more.",
    )
    apart_patience_seconds: float = Field(
        30.0,
        gt=0,
        description="How long such a run waits for an idle process. After that, a process takes no"
        " other runs until it is idle.",
    )
    run_timeout_seconds: float = Field(
        3600.0, gt=0, description="A run longer than this ends as `timeout`."
    )
    slow_node_seconds: float = Field(
        60.0,
        ge=0,
        description="A node that takes longer is logged (`node_slow`) while it runs; 0: headrace"
        " logs none.",
    )
    lease_seconds: float = Field(
        10.0, ge=0.5, description="A process silent this long has lost its runs."
    )
    heartbeat_seconds: float = Field(2.5, gt=0, description="How often the lease is renewed.")
    timeline_fence: bool = Field(
        True,
        description="Whether a process gives its runs up when the database goes on as another"
        " server, for example as a promoted standby, so that they go on from checkpoints that are"
        " there. Off: only where a promotion loses no commit.",
    )
    sweep_seconds: float = Field(1.0, gt=0, description="How often expired processes are sought.")
    loop_stall_limit_seconds: float = Field(
        60.0, gt=0, description="An event loop silent this long no longer renews its lease."
    )
    unserved_timeout_seconds: float = Field(
        0.0,
        ge=0,
        description="A run that waits this long for a graph that no process executes ends as"
        " `error`; 0: it waits for ever.",
    )
    recursion_limit: int = Field(25, ge=1, description="Default recursion_limit of a run.")
    max_error_bytes: int = Field(
        32 * 1024,
        ge=256,
        description="What is kept of an error's message: in the run, its thread, its checkpoint.",
    )

    @property
    def threads(self) -> int:
        """``max_threads``, or its default."""
        return self.max_threads or max(64, 2 * self.max_concurrent_runs)

    @model_validator(mode="after")
    def _ratio(self) -> Self:
        if self.lease_seconds < 3 * self.heartbeat_seconds:
            raise ValueError(
                f"worker.lease_seconds ({self.lease_seconds}) must be at least three times"
                f" worker.heartbeat_seconds ({self.heartbeat_seconds}), so that one late renewal"
                " costs nothing"
            )
        return self
