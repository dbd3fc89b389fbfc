"""gunicorn's command line and logger, as headrace sets them."""

import logging
from typing import Any

from gunicorn import config
from gunicorn.glogging import Logger

from headrace.observability.logging import adopt_logger, configure_logging
from headrace.server.own_secrets import mask_own, mask_tracebacks
from headrace.settings import Settings

#: Created by each server process after the fork.
APPLICATION = "headrace.server.app:create_app()"

#: gunicorn 25 and later make a control socket in the home directory. headrace does not need it, and
#: a container may have no home directory.
_WITHOUT_CONTROL_SOCKET = (
    ("--no-control-socket",) if hasattr(config, "ControlSocketDisable") else ()
)

#: A file of this name marks a runtime directory that the master removes when it ends.
TEMPORARY = ".temporary"

#: A file of this name marks a runtime directory that several masters share. Then no master clears
#: the board.
SHARED = ".shared"


def arguments(
    settings: Settings, *, application: str | None = None, listener: int | None = None
) -> list[str]:
    """gunicorn's arguments, without the program's name.

    :param application: the app to serve, like ``module:app``; default: that of the settings, else
        headrace's own server. ``headrace worker`` ignores the app of the settings.
    :param listener: descriptor of a bound socket; default: gunicorn makes one.
    """
    server = settings.server
    own = settings.app if server.api else ""
    binds = [_bind(settings.host, settings.port) if listener is None else f"fd://{listener}"]
    if settings.metrics.port and listener is None:
        # The thread of each process's health port takes this socket.
        binds.append(_bind(settings.metrics.host or settings.host, settings.metrics.port))
    return [
        f"--config=python:{__package__}.hooks",
        *(f"--bind={bind}" for bind in binds),
        f"--workers={settings.processes}",
        f"--worker-class={__package__}.process.ServerProcess",
        f"--logger-class={__name__}.ServerLogger",
        f"--log-level={settings.observability.log_level}",
        f"--timeout={server.process_timeout_seconds}",
        f"--graceful-timeout={server.graceful_timeout_seconds}",
        f"--keep-alive={server.keepalive_seconds}",
        *_WITHOUT_CONTROL_SOCKET,
        application or own or APPLICATION,
    ]


def _bind(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class ServerLogger(Logger):
    """gunicorn's logger, which writes through headrace's. The master sets it up, and its forks keep
    it.
    """

    def setup(self, cfg: Any) -> None:
        # First: the settings may be wrong, and nobody here catches that.
        mask_own()
        mask_tracebacks()
        super().setup(cfg)  # type: ignore[no-untyped-call]
        configure_logging(Settings().observability)
        adopt_logger("gunicorn.error")
        self.error_log.setLevel(self.loglevel)
        self.access_log.setLevel(logging.CRITICAL)
