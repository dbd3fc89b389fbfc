"""What headrace tells gunicorn: its command line and its logger."""

import logging
from typing import Any

from gunicorn import config
from gunicorn.glogging import Logger

from headrace.observability.logging import adopt_logger, configure_logging
from headrace.settings import Settings

#: Created by each server process after the fork.
APPLICATION = "headrace.server.app:create_app()"

#: Not needed, and a file in a home directory that a container may not have. gunicorn 25 brought it.
_WITHOUT_CONTROL_SOCKET = (
    ("--no-control-socket",) if hasattr(config, "ControlSocketDisable") else ()
)

#: A file of this name marks a runtime directory that goes when the master does.
TEMPORARY = ".temporary"

#: A file of this name marks one that several masters share: none of them clears the board.
SHARED = ".shared"


def arguments(
    settings: Settings, *, application: str | None = None, listener: int | None = None
) -> list[str]:
    """gunicorn's arguments, without the program's name.

    :param application: what to serve, like ``module:app``; default: that of the settings, else
        headrace's own server. A worker alone serves its own.
    :param listener: descriptor of a bound socket; default: one is made.
    """
    server = settings.server
    own = settings.app if server.api else ""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    bind = f"{host}:{settings.port}" if listener is None else f"fd://{listener}"
    return [
        f"--config=python:{__package__}.hooks",
        f"--bind={bind}",
        f"--workers={settings.processes}",
        f"--worker-class={__package__}.process.ServerProcess",
        f"--logger-class={__name__}.ServerLogger",
        f"--log-level={settings.observability.log_level}",
        f"--timeout={server.process_timeout_seconds}",
        f"--graceful-timeout={server.graceful_timeout_seconds}",
        f"--keep-alive={server.keepalive_seconds}",
        f"--forwarded-allow-ips={server.forwarded_allow_ips}",
        *_WITHOUT_CONTROL_SOCKET,
        application or own or APPLICATION,
    ]


class ServerLogger(Logger):
    """gunicorn's logger, writing through headrace's; set up in the master, kept by its forks."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)  # type: ignore[no-untyped-call]
        configure_logging(Settings().observability)
        adopt_logger("gunicorn.error")
        self.error_log.setLevel(self.loglevel)
        self.access_log.setLevel(logging.CRITICAL)
