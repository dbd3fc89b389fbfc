"""Programs of other people that some tests need."""

import os
import shutil

import pytest

#: Where daemons are, on machines that keep these folders from the PATH of ordinary users.
_DAEMONS = "/usr/local/sbin:/usr/sbin:/sbin"


def require_tool(name: str, *, remedy: str = "install it") -> str:
    """The path of ``name``; without it the test is skipped, or fails where tools are required."""
    found = shutil.which(name) or shutil.which(name, path=_DAEMONS)
    if found is not None:
        return found
    reason = f"{name} is not there; this test needs the real one: {remedy}"
    if os.environ.get("HEADRACE_REQUIRE_TOOLS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
