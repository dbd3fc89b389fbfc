"""Samples of a server under load, taken by py-spy from outside: who holds Python's lock."""

import subprocess
from pathlib import Path

from loadtests.agents.parts import shares
from loadtests.agents.visitors import Agents
from loadtests.agents.workload import Workload
from loadtests.measuring.apart import load_process
from loadtests.measuring.client import Load
from loadtests.measuring.processors import group_members
from loadtests.measuring.servers import ServerProcess

_RATE = 400


def profiled(
    server: ServerProcess, agents: int, workload: Workload, *, spy: Path, folder: Path, seconds: int
) -> dict[str, float]:
    """Parts of the time in which the server's processes ran Python, under so many agents."""
    load = Load(
        server.port, Agents(agents, workload), connections=agents, seconds=float(seconds + 2)
    )
    with load_process(load) as process:
        process.wait_begun()
        # The first process only watches the others.
        pids = [pid for pid in group_members(server.group) if pid != server.group]
        samples = [folder / f"{server.name}.{pid}.raw" for pid in pids]
        recorders = [
            subprocess.Popen(  # noqa: S603 - a program that the caller names
                _command(spy, pid, path, seconds),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for pid, path in zip(pids, samples, strict=True)
        ]
        for recorder in recorders:
            recorder.wait()
        process.wait_ended()
        process.outcome()
    return shares(line for path in samples if path.exists() for line in path.open())


def _command(spy: Path, pid: int, path: Path, seconds: int) -> list[str]:
    options = ["--gil", "--rate", str(_RATE), "--duration", str(seconds), "--format", "raw"]
    return [str(spy), "record", *options, "--output", str(path), "--pid", str(pid)]
