"""``make compare-peers``: every peer in an environment of its own, from PyPI.

One that cannot be installed is told with a sentence; the others are installed all the same.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from loadtests.compare.contenders import CONTENDERS
from loadtests.measuring.variables import names
from loadtests.peers.external import ENVIRONMENTS, HOME, Environment, NotInstalled

_SECONDS = 900


def main(environ: Mapping[str, str]) -> int:
    """The exit code."""
    home = Path(environ.get("COMPARE_PEERS") or HOME)
    try:
        wanted = wanted_environments(environ)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for name in wanted:
        try:
            sys.stdout.write(f"{name}: {_install(home / name, ENVIRONMENTS[name])}\n")
        except NotInstalled as reason:
            sys.stdout.write(f"{name} is left out: {reason}\n")
        sys.stdout.flush()
    return 0


def wanted_environments(environ: Mapping[str, str]) -> list[str]:
    """Those of the contenders that COMPARE_CONTENDERS names; all if it is not set.

    :raises ValueError: it names one that needs no environment, or that nobody knows.
    """
    peers = {name: one.environment for name, one in CONTENDERS.items() if one.environment}
    named = names(environ, "COMPARE_CONTENDERS", peers, tuple(peers))
    return list(dict.fromkeys(peers[name] for name in named))


def _install(folder: Path, environment: Environment) -> str:
    if (folder / "installed").exists() and (folder / "installed").read_text() == _said(environment):
        return "is there"
    python = _python(environment.python)
    _run([python, "-m", "venv", "--clear", str(folder)])
    _run([str(folder / "bin" / "python"), "-m", "pip", "install", "-q", *environment.packages])
    (folder / "installed").write_text(_said(environment))
    return f"installed {_said(environment)}"


def _said(environment: Environment) -> str:
    return ", ".join(environment.packages)


def _python(least: tuple[int, int]) -> str:
    """An interpreter that is new enough: this one, one on the path, or one installed beside this.

    :raises NotInstalled: there is none.
    """
    if sys.version_info[:2] >= least:
        return sys.executable
    names = [f"python{least[0]}.{minor}" for minor in range(least[1], least[1] + 3)]
    # Version managers have a folder for each version, and programs in the path that start nothing.
    beside = [path for name in names for path in Path(sys.base_prefix).parent.glob(f"*/bin/{name}")]
    for path in [*filter(None, map(shutil.which, names)), *map(str, beside)]:
        if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:  # noqa: S603
            return path
    raise NotInstalled(f"it needs Python {least[0]}.{least[1]}, which is not here")


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)  # noqa: S603
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "ERROR" in line] or ["no reason"]
        raise NotInstalled(lines[-1]) from error
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"it was not installed within {_SECONDS} s") from error


if __name__ == "__main__":
    sys.exit(main(os.environ))
