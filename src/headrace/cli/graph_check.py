"""Checks the graphs in a process of its own: user code, and LangGraph's slow import."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from typing import Any, Self

from headrace.errors import StartupRefusal

#: If the user's code ends the process, at most so many lines of its last output are shown.
_LAST_LINES = 10


class GraphCheck:
    """Runs from its construction on; :meth:`problem` has the result, whatever the code does."""

    def __init__(self) -> None:
        self._reports, child_end = os.pipe()
        # Read from time to time; nothing waits for it.
        fcntl.fcntl(self._reports, fcntl.F_SETFL, os.O_NONBLOCK)
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        self._process = subprocess.Popen(  # noqa: S603 - our own arguments, no shell
            [sys.executable, "-m", "headrace.graphs.check", str(child_end)],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            pass_fds=[child_end],
            # Ctrl-C does not reach it: `stop` ends it.
            start_new_session=True,
        )
        os.close(child_end)
        self._unread = b""
        self._file = ""
        self._place: str | None = None
        self._verdict: dict[str, Any] | None = None
        self._stopped = False

    @property
    def ended(self) -> bool:
        self._read()
        return self._verdict is not None or self._process.poll() is not None

    def slow_at(self) -> str | None:
        """The user's line that takes long. Reported once; None if there is nothing new."""
        self._read()
        place, self._place = self._place, None
        return place

    def problem(self) -> str | None:
        """What is wrong, once it has :attr:`ended`: a traceback and one sentence; None if nothing.

        If the process ended without a result, the code that it imported has ended it.
        """
        self._read()
        if self._verdict is None:
            return "\n".join([*self._last_output(), str(self._ended_by_itself())])
        if "passed" in self._verdict:
            return None
        return "\n".join(filter(None, [self._verdict["traceback"], self._verdict["refusal"]]))

    def input_schema(self, graph_id: str) -> dict[str, Any] | None:
        """The JSON schema of a graph's input, if the check found no problem; None if it is not
        known.
        """
        schema = ((self._verdict or {}).get("inputs") or {}).get(graph_id)
        return schema if isinstance(schema, dict) else None

    def stop(self) -> None:
        """End the check, and the processes that it has started; may be called twice."""
        if self._stopped:
            return
        self._stopped = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._reports)
        self._output.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _read(self) -> None:
        if self._stopped:
            return
        with contextlib.suppress(BlockingIOError):
            while read := os.read(self._reports, 65536):
                self._unread += read
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def _take(self, report: dict[str, Any]) -> None:
        if "file" in report:
            self._file = report["file"]
        elif "stands" in report:
            self._place = report["stands"] or self._file
        else:
            self._verdict = report

    def _last_output(self) -> list[str]:
        self._output.seek(0)
        return self._output.read().decode(errors="replace").splitlines()[-_LAST_LINES:]

    def _ended_by_itself(self) -> StartupRefusal:
        code = self._process.wait()
        how = f"exit code {code}, as os._exit() does" if code >= 0 else _signal_name(-code)
        return StartupRefusal(
            "HR105",
            where=self._file or "langgraph.json",
            what=f"importing it ended the process ({how})",
            remedy="Take out what ends it.",
        )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
