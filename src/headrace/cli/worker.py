"""``headrace worker``: ``headrace serve`` without the API. It executes runs and serves health and
metrics.
"""

from headrace.cli.options import Config, Host, Port, Processes, settings_with
from headrace.cli.serve import become_server
from headrace.settings import set_environment


def worker(
    host: Host = None,
    port: Port = None,
    processes: Processes = None,
    config: Config = None,
) -> None:
    """Execute the runs that others accepted; answers health and metrics, and no API request."""
    set_environment({"HEADRACE_SERVER__API": "false", "HEADRACE_WORKER__ENABLED": "true"})
    become_server(settings_with(host=host, port=port, processes=processes, config=config))
