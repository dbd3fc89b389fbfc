"""The lines with curl that a page or a first screen shows, typed as they stand."""

import json
import os
import subprocess


def curl_lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip().startswith("curl -s ")]


def paste(line: str, **environment: str) -> dict[str, str]:
    """The reply; a shell reads the line, with these variables exported."""
    answer = subprocess.run(
        ["sh", "-c", line],
        env={**os.environ, **environment},
        capture_output=True,
        check=True,
        timeout=30,
    )
    reply: dict[str, str] = json.loads(answer.stdout)
    return reply
