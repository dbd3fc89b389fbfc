"""The data directory: locked for one owner, with the right major version, created if it is missing.

It refuses data of another major version, a folder with other content, and a second owner.
"""

import fcntl
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

from headrace.embedded.account import SHARED_ROOT, Account, make_shared_root
from headrace.embedded.binaries import Binaries
from headrace.errors import StartupRefusal


def lock(data_dir: Path) -> IO[Any]:
    """Hold ``data_dir`` for this process, until the returned file is closed or the process ends.

    Without it a second ``headrace dev`` would adopt the running server and stop it under the first.

    :raises StartupRefusal: HR325 when another process holds it.
    """
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    file = data_dir.with_name(f"{data_dir.name}.lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise StartupRefusal(
            "HR325",
            where=str(data_dir),
            what="another headrace process already runs the embedded Postgres of this folder",
            remedy="Stop it first, or start this one in another folder.",
        ) from None
    return file


def settle(account: Account, data_dir: Path) -> tuple[Path, str | None]:
    """The directory where the data really goes, and a note if that is in ``/var/lib/headrace``.

    If ``account`` cannot enter the parent, ``data_dir`` becomes a symbolic link to a new directory
    there. So removing the link starts afresh, and moving the link takes the data along.

    :raises StartupRefusal: HR324 the data exists, but ``account`` cannot reach it.
    """
    if not data_dir.is_symlink():
        if account.can_enter(data_dir.parent):
            return data_dir, None
        if data_dir.exists():
            raise StartupRefusal(
                "HR324",
                where=str(data_dir),
                what="Postgres, which root runs as nobody, cannot reach it",
                remedy=f"Move it below {SHARED_ROOT} and put a symbolic link in its place.",
            )
        make_shared_root()
        data_dir.symlink_to(tempfile.mkdtemp(prefix="pg-", dir=SHARED_ROOT))
    place = data_dir.resolve()
    if place.parent != SHARED_ROOT:
        return place, None
    return place, f"Postgres runs as nobody, who cannot enter {data_dir.parent}: data is in {place}"


def check_major(data_dir: Path, binaries: Binaries) -> bool:
    """Whether ``data_dir`` holds data, made by the major version of ``binaries``.

    :raises StartupRefusal: HR321 for another major version, HR324 for a folder that is no data
        directory or is closed to us.
    """
    try:
        if not data_dir.is_dir() or not any(data_dir.iterdir()):
            return False
        found = (data_dir / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise StartupRefusal(
            "HR324",
            where=str(data_dir),
            what="it holds files but no Postgres data",
            remedy="Move them away; headrace makes a new data directory there.",
        ) from None
    except PermissionError:
        raise StartupRefusal(
            "HR324",
            where=str(data_dir),
            what="it belongs to another user",
            remedy="Start headrace as that user, or move the directory away to begin anew.",
        ) from None
    if found != str(binaries.major):
        raise StartupRefusal(
            "HR321",
            where=str(data_dir),
            what=f"Postgres {found} wrote this data and the embedded Postgres is"
            f" {binaries.version}",
            remedy=f"Move the directory away to begin anew (mv {data_dir} {data_dir}.{found}), or"
            f" carry the data over with pg_upgrade, or with pg_dump of a Postgres {found}.",
        )
    return True


def create(account: Account, binaries: Binaries, data_dir: Path, *, durable: bool) -> None:
    """Run initdb. The directory appears whole or not at all, even if this process is killed.

    :raises StartupRefusal: HR323 with the last output of initdb.
    """
    unfinished = data_dir.with_name(f"{data_dir.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700, parents=True)
    account.give(unfinished)
    command: list[str | Path] = [binaries.initdb, "-D", unfinished, "-U", "postgres"]
    command += ["-A", "trust", "-E", "UTF8"]
    command += ["--no-locale"]  # the locale in LANG may not be installed
    if binaries.major >= 17:
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if not durable:
        command += ["--no-sync"]
    with account.popen(command, subprocess.PIPE) as process:
        try:
            said, _ = process.communicate()
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0:
        lines = said.decode(errors="replace").strip().splitlines()
        raise StartupRefusal(
            "HR323",
            where=str(data_dir),
            what=f"initdb failed: {' | '.join(lines[-3:])}",
            remedy="Correct that, or set DATABASE_URL to a Postgres of your own.",
        )
    unfinished.rename(data_dir)
