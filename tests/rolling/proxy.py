"""nginx in front of the pods, as it comes: no retry of POST requests, connections kept alive."""

import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.support.processes import free_port
from tests.support.tools import require_tool
from tests.support.waiting import wait_until

_CONFIGURATION = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 512; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream pods {{
{servers}
    keepalive 32;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://pods;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_read_timeout 300s;
    }}
  }}
}}
"""


class Nginx:
    """One instance with a configuration of its own.

    :param ports: of the pods. With ``max_fails=0`` a pod that is started again gets requests at
        once, not ten seconds later.
    """

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        servers = "\n".join(f"    server 127.0.0.1:{port} max_fails=0;" for port in ports)
        self._file = folder / "nginx.conf"
        self._file.write_text(_CONFIGURATION.format(folder=folder, servers=servers, port=self.port))
        self._binary = require_tool("nginx", remedy="make ci-tools")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._binary, "-c", str(self._file), "-p", str(self.folder), "-e", "/dev/null"]
        )
        wait_until(self._listens)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def errors(self) -> list[str]:
        """What nginx says of its pods, but for refused connections: those go to the next pod."""
        with suppress(FileNotFoundError):
            return [
                line
                for line in (self.folder / "error.log").read_text().splitlines()
                if ("[error]" in line or "[crit]" in line) and "Connection refused" not in line
            ]
        return []

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False
