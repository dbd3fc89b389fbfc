"""The operating system user that Postgres runs as, and what that user can reach.

Postgres refuses to run as root. If root starts it, it runs as ``nobody``; else it runs as the user
that starts it. No directory of root is opened to others: files that ``nobody`` cannot reach are put
below ``/var/lib/headrace`` instead, and a note says so.
"""

import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from headrace.embedded.binaries import Binaries
from headrace.errors import StartupRefusal
from headrace.settings import environment

#: For root alone: owned by root, readable by all, survives a reboot.
SHARED_ROOT = Path("/var/lib/headrace")


@dataclass(frozen=True, slots=True)
class Account:
    """The user who runs Postgres; ``uid`` None means the current user."""

    uid: int | None = None
    gid: int | None = None

    @classmethod
    def choose(cls) -> Self:
        """The account for the user who runs this process.

        :raises StartupRefusal: HR324 root has no user ``nobody`` to run Postgres as.
        """
        if os.geteuid() != 0:
            return cls()
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            raise StartupRefusal(
                "HR324",
                where="embedded Postgres",
                what="Postgres refuses to run as root, and this machine has no user nobody",
                remedy="Start headrace as another user, or set DATABASE_URL.",
            ) from None
        return cls(nobody.pw_uid, nobody.pw_gid)

    def popen(
        self, command: Sequence[str | Path], output: IO[Any] | int
    ) -> subprocess.Popen[bytes]:
        """Start ``command`` as this user, in a session of its own.

        A Ctrl-C in the terminal goes to the terminal's own session: Postgres must not get it before
        the servers have drained.
        """
        return subprocess.Popen(  # noqa: S603 - our own arguments, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",  # the current folder may be one that this user cannot enter
            env=_postgres_environment(),
            start_new_session=True,
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
        )

    def give(self, path: Path) -> None:
        """Make this user the owner of ``path``; nothing changes if it is the current user."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def can_enter(self, directory: Path) -> bool:
        """Whether this user can enter ``directory``, or its nearest parent that exists.

        Checks mode bits only, no access control lists: a wrong no costs a copy, not a failure.
        """
        if self.uid is None:
            return True
        directory = directory.resolve()
        while not directory.exists():
            directory = directory.parent
        return all(self._passes(step) for step in (directory, *directory.parents))

    def _passes(self, directory: Path) -> bool:
        status = directory.stat()
        return bool(
            status.st_mode & stat.S_IXOTH
            or (status.st_uid == self.uid and status.st_mode & stat.S_IXUSR)
        )


def reachable_binaries(account: Account, binaries: Binaries) -> tuple[Binaries, str | None]:
    """``binaries``; or, if ``account`` cannot run them, a copy, with a note about it."""
    readable = binaries.postgres.stat().st_mode & stat.S_IROTH
    if account.can_enter(binaries.bindir) and (account.uid is None or readable):
        return binaries, None
    installation = binaries.bindir.parent
    package = installation.parent
    libraries = package.with_name(f"{package.name}.libs")  # found relative to bin, so it comes too
    copy = SHARED_ROOT / f"postgres-{binaries.version}-{binaries.postgres.stat().st_size}"
    if not copy.exists():
        make_shared_root()
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=SHARED_ROOT))
        shutil.copytree(installation, partial / package.name / installation.name, symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, partial / libraries.name, symlinks=True)
        _open_to_readers(partial)
        partial.rename(copy)
    note = f"Postgres runs as nobody, who cannot read {binaries.bindir}: using the copy in {copy}"
    bindir = copy / package.name / installation.name / binaries.bindir.name
    return Binaries(bindir, binaries.version), note


def make_shared_root() -> None:
    SHARED_ROOT.mkdir(parents=True, exist_ok=True)
    SHARED_ROOT.chmod(0o755)


def _open_to_readers(tree: Path) -> None:
    # pip follows the umask. With a strict umask, other users cannot read root's files.
    for folder, _, files in os.walk(tree):
        Path(folder).chmod(0o755)
        for name in files:
            file = Path(folder, name)
            if not file.is_symlink():
                file.chmod(0o755 if file.stat().st_mode & stat.S_IXUSR else 0o644)


def _postgres_environment() -> dict[str, str]:
    # PGPORT, PGDATA and the like are meant for the user's own Postgres; messages stay English.
    ours = {name: value for name, value in environment().items() if not name.startswith("PG")}
    return {**ours, "LC_ALL": "C"}
