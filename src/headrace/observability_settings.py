"""The settings of what headrace tells about itself: logs and metrics."""

from typing import Literal

from pydantic import Field, field_validator

from headrace.setting_groups import Group


class MetricsSettings(Group):
    """How headrace measures metrics, and the second port for metrics and health."""

    port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port of health and metrics alone, for probes and scrapers: a thread of its own"
        " answers there while the event loop is full or blocked. `/metrics` is then 404 on the"
        " other port. 0: none. For `headrace serve` and `headrace worker`.",
    )
    host: str = Field("", description="Address of that port; empty: `HEADRACE_HOST`.")
    cache_seconds: float = Field(
        1.0, ge=0, description="Metrics are written anew no more often than this."
    )
    table_seconds: float = Field(
        30.0,
        ge=0,
        description="How often one process of the pod measures tables, old transactions and when"
        " credentials expire, for `/metrics`, from 1 s on; 0: never.",
    )

    @field_validator("table_seconds")
    @classmethod
    def _not_at_once(cls, value: float) -> float:
        if 0 < value < 1:
            raise ValueError("tables are measured once a second at most; 0 switches that off")
        return value


class ObservabilitySettings(Group):
    """Logs."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level logged."
    )
    log_format: Literal["auto", "json", "console", "short"] = Field(
        "auto",
        description="`auto`: console on a terminal, else JSON lines, and short in `headrace dev`;"
        " `short`: one line a request, the errors of runs, and warnings.",
    )
    max_log_text_bytes: int = Field(
        32 * 1024,
        ge=1024,
        description="A text of a log line, such as a traceback, loses its middle above this.",
    )
    access_lines_per_second: int = Field(
        200,
        ge=0,
        description="Lines of the access log in each process for quick successful answers, on"
        " average; 0: all. Refusals, faults, cuts and slow answers always have a line.",
    )
