"""Where headrace answers otherwise than the recording, and why: what nobody lists is a fault."""

import re
from dataclasses import dataclass
from typing import Literal

from tests.clients.replay import Difference


@dataclass(frozen=True)
class Known:
    """One deliberate difference.

    :ivar says: words of docs/compatibility.md, in a row that is headed ``kind``.
    :ivar where: of which differences; a pattern for the whole of ``Difference.where``.
    :ivar only: of which exchanges; a pattern somewhere in ``chapter: title``.
    :ivar tells: of which answers; a pattern somewhere in ``recorded -> found``.
    """

    kind: Literal["better", "different", "same"]
    says: str
    where: str
    only: str = ""
    tells: str = ""

    def covers(self, exchange: str, difference: Difference) -> bool:
        return (
            re.fullmatch(self.where, difference.where) is not None
            and re.search(self.only, exchange) is not None
            and re.search(self.tells, f"{difference.recorded} -> {difference.found}") is not None
        )


_STATELESS = (
    r"^(stream_modes|join_stream|odd_routes): (stateless|error in node|feedback|POST /runs/stream)"
)
_VERSIONS = r".*\.langgraph_(api_version|api_url|plan|host|version)"

KNOWN: list[Known] = [
    # Everywhere
    Known("better", "An `end` event `{run_id, status}` besides", "events end"),
    Known("better", "A stable `code` stands beside it", r"\$\.code"),
    Known("different", "`langgraph_version`, `langgraph_plan` and others of its kind", _VERSIONS),
    Known("different", "headrace reports what is installed", r".*\.lc_versions\..*"),
    Known("different", "no `langsmith_session_name`", r".*\.langsmith_session_name"),
    # Runs
    Known(
        "different",
        "`kwargs` of a run: what the caller said",
        r"\$(\[\])?\.kwargs\.(checkpoint_during|feedback_keys|webhook|config\.metadata"
        r"|config\.configurable\.\w+)",
    ),
    Known(
        "different",
        "`langgraph_auth_*` are there when somebody is known",
        r".*\.configurable\.(__\w+__|langgraph_auth_user|langgraph_auth_permissions)",
    ),
    Known("better", "The run may be `running` already", r"\$(\[\])?\.status", "background"),
    Known(
        "better",
        "a batch's runs say their `graph_id`",
        r"\$(\[\])?\.metadata\.graph_id",
        "POST /runs",
    ),
    Known(
        "better", "A stateless `Location` leads somewhere", "header (content-)?location", _STATELESS
    ),
    Known(
        "better",
        "A stateless `Location` leads somewhere",
        "status|header content-type",
        "stateless stream path|GET Location",
    ),
    Known(
        "better",
        "An unknown run is 404, not 200 with an error inside",
        "status|header .*",
        "unknown run",
    ),
    Known(
        "different",
        "422 with a sentence: they would have no effect",
        "status|header .*|events.*|error.*",
        "feedback_keys",
    ),
    Known(
        "better",
        "Honoured, and `flags` of `/info` say so",
        r"\$.*|events|status|header .*",
        "strict_resume",
    ),
    Known("better", "repeated, as a JSON array, or with commas", "events", "stream_mode="),
    Known(
        "better",
        "all that the run waits for beside the last values",
        r"\$\.log\[\]",
        "command goto.update",
    ),
    Known(
        "different",
        "what the graph itself raises",
        r"\$\.__error__\.error",
        "resume on a thread with nothing",
    ),
    Known("better", "`checkpoint_id: null` is as none", "status", "checkpoint with null id"),
    Known("different", "also for a run that waited in the queue", r".*\.langgraph_request_id"),
    Known("different", "also with the empty `checkpoint_ns`", r"events\.metadata\.checkpoint_ns"),
    Known(
        "better",
        "`stream_mode` and `stream_modes`",
        "event.*",
        "^thread_stream.*(lifecycle|state_u)",
    ),
    Known(
        "better",
        "`Last-Event-ID` is one of them",
        "status|header content-type",
        "Last-Event-ID: -1",
    ),
    # Assistants and `/info`
    Known("better", "A graph's name is its first assistant", "status", "GET /assistants/agent"),
    Known("better", "By a graph's name too, where it is 422", "status", "/hitl/schemas"),
    Known("better", "By a graph's name too; `a", "status", "/nested/subgraphs"),
    Known("same", "alike is no contradiction", "status", "POST /assistants both"),
    Known(
        "different", "All are made at one moment", r"\$\[\]\.(assistant_id|graph_id)", "^assistants"
    ),
    Known("better", "`flags` and `host` tell what headrace has", r"\$\.(flags|host)\..*", "/info"),
    # Threads
    Known("better", "`keep_latest` leaves alone", "status", "threads/prune"),
    Known(
        "different",
        "The ids, `run_attempt` and what the caller gave",
        r"\$(\[\]|\.tasks\[\]\.state)?\.metadata\.(thread_id|checkpoint_\w+|langgraph_\w+)",
    ),
    Known("better", "`checkpoint` always with its", r"\$\.checkpoint\.checkpoint_ns", "state"),
    Known("better", "`select` (ignored there)", r"\$\.\w+", "state.select=values"),
    Known("better", "`select`. `before` may be an id", r"\$\[\]\.\w+", "history select"),
    Known("better", "`before` may be an id", "status|header content-type", "history before"),
    Known("different", "Small values are part of the checkpoint", r"\$\.channel_values\..*"),
    Known("better", "`services.database` is `ok`", r"\$\.services\.database"),
    Known("different", "Without `sort_by` by `created_at`", r"\$\[\]\.thread_id", "search"),
    Known("better", "`values` works", "status|header content-type", "values filter"),
    Known("better", "`include=ttl` shows", r"\$\.ttl"),
    Known("different", "`config` is what its last run", r"\$\.config\..*", "background"),
    Known(
        "different",
        "`error` and `interrupts` are there from the first state on",
        r"\$\.(error|interrupts)",
        "copy|supersteps",
    ),
]
