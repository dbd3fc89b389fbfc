"""Whom the tests and the servers they start trust: a single authority, as no test asks others.

To read all authorities of a system takes 30 to 50 ms of the processor. A server does it when it
starts and httpx for each client, and a test that polls makes fifty clients a second.
"""

import os
import tempfile
from pathlib import Path

import certifi
import pytest

#: Where OpenSSL, and what is built on it, looks for authorities.
_PLACES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
#: What they held before is kept under their names with this, also for the processes of xdist.
_BEFORE = "BEFORE_TESTS_"


def trust_one_authority(config: pytest.Config) -> None:
    first, end, _ = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----")
    folder = tempfile.TemporaryDirectory(prefix="headrace-test-")
    config.add_cleanup(folder.cleanup)
    file = Path(folder.name) / "certificate.pem"
    file.write_text(f"{first}{end}\n")
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    for name in _PLACES:
        if _BEFORE + name not in os.environ:
            patch.setenv(_BEFORE + name, os.environ.get(name, ""))
    patch.setenv("SSL_CERT_FILE", str(file))
    patch.delenv("SSL_CERT_DIR", raising=False)


def registry_environment() -> dict[str, str]:
    """The environment for what asks a package registry: with the authorities of the machine."""
    environment = dict(os.environ)
    for name in _PLACES:
        before = environment.pop(_BEFORE + name, None)
        if before is None:
            continue
        environment.pop(name, None)
        if before:
            environment[name] = before
    return environment
