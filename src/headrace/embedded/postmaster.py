"""Reads ``postmaster.pid``, the file about the server of a data directory.

Postgres writes it. A file of a dead server is left to Postgres and never removed here.
"""

import os
from dataclasses import dataclass
from pathlib import Path

_PID, _PORT, _SOCKET_DIRECTORY = 0, 3, 4


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A server process, as its data directory names it."""

    pid: int
    port: int
    socket_directory: Path

    @property
    def socket(self) -> Path:
        return self.socket_directory / f".s.PGSQL.{self.port}"

    @property
    def alive(self) -> bool:
        """Whether a process with this id exists; it may be a stranger with a reused id."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def read_postmaster(data_dir: Path) -> Postmaster | None:
    """The server that ``data_dir`` names; None without a complete file."""
    try:
        lines = (data_dir / "postmaster.pid").read_text().splitlines()
        return Postmaster(int(lines[_PID]), int(lines[_PORT]), Path(lines[_SOCKET_DIRECTORY]))
    except (FileNotFoundError, IndexError, ValueError):
        return None
