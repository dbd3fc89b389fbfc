"""In a network namespace that reaches only Postgres everything works, and nothing calls out: no
telemetry, no traces, no look for updates, no name that is looked up.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.sources import ROOT
from tests.support.tools import require_tool

pytestmark = [pytest.mark.acceptance, pytest.mark.paired]

#: Postgres is reached by its socket in the file system. All other ways lead to a device that drops
#: what it is given, and counts it.
SETUP = """
set -e
mount --make-rprivate /
mount --bind "$1" /etc/resolv.conf
ip link set lo up
ip link add outside type dummy
echo 1 > /proc/sys/net/ipv6/conf/outside/disable_ipv6 || true
ip link set outside arp off
ip address add 10.99.0.2/24 dev outside
ip link set outside up
ip route add default dev outside
shift
exec "$@"
"""


def test_everything_works_and_nothing_calls_out(tmp_path: Path, database_url: str) -> None:
    unshare, _ = require_tool("unshare"), require_tool("ip", remedy="install iproute2")
    names = tmp_path / "resolv.conf"
    names.write_text("nameserver 10.99.0.53\noptions timeout:1 attempts:1\n")
    closed = [unshare, "--net", "--mount", "--", "sh", "-c", SETUP, "sh", str(names)]
    if subprocess.run([*closed, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not make network namespaces: it takes root and CAP_SYS_ADMIN")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LANG")}
    done = subprocess.run(
        [
            *closed,
            sys.executable,
            "-m",
            "tests.support.closed_network",
            str(tmp_path),
            database_url,
        ],
        cwd=ROOT,
        env={**kept, "HEADRACE_CRONS__MIN_INTERVAL_SECONDS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told.pop("counted"), "what calls out is not counted, so the test proves nothing"
    assert told.pop("sent") == 0
    assert set(told.pop("pages").values()) == {200}
    assert told == {
        "reply": "message 1",
        "events": ["messages", "metadata", "values"],
        "answer": "yes",
        "threads": 1,
        "item": {"text": "here"},
        "chat": 200,
    }
