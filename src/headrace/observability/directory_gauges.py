"""How large the directory of the metric files is, and how much room is left for it."""

import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

#: The unit of ``st_blocks``, whatever the file system's own blocks are (POSIX, ``sys/stat.h``).
_BLOCK_BYTES = 512


class DirectoryCollector(Collector):
    """Measures the directory at each scrape.

    :param directory: ``PROMETHEUS_MULTIPROC_DIR``; None: there are no such metrics.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def describe(self) -> list[GaugeMetricFamily]:
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        if self._directory is None:
            return
        try:
            taken = sum(_allocated(entry) for entry in os.scandir(self._directory))
            system = os.statvfs(self._directory)
        except OSError:
            return
        yield GaugeMetricFamily(
            "headrace_metrics_directory_bytes",
            "Disk space that the metric files of the pod take.",
            value=taken,
        )
        yield GaugeMetricFamily(
            "headrace_metrics_directory_free_bytes",
            "Disk space that is left where they are.",
            value=system.f_bavail * system.f_frsize,
        )


def _allocated(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_blocks * _BLOCK_BYTES
    except FileNotFoundError:
        # It was merged with others meanwhile.
        return 0
