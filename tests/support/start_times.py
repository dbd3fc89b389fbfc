"""How long a command may take to answer, on machines of every speed."""

import subprocess
import sys
import time

#: On a machine of the usual speed, importing the server takes a second.
_AT_LEAST_SECONDS = 5.0
_IMPORTS = 4.0


def start_limit_seconds() -> float:
    """Five seconds; on a slow or busy machine, four times what importing the server takes."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", "import headrace.server.app"], check=True)
    return max(_AT_LEAST_SECONDS, _IMPORTS * (time.monotonic() - started))
