"""Puts the locked versions into the wheel, as the constraints file ``headrace/_constraints.txt``.

Whoever installs a project's packages beside headrace (``headrace dockerfile``) passes it to pip: a
pin that headrace does not run with fails there, with pip's own sentence, and not in production.
"""

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ConstraintsHook(BuildHookInterface):  # type: ignore[type-arg]
    """The lock without what pip refuses in constraints: extras, and hashes for some packages only.

    headrace itself is among them, so that no requirement exchanges it for another release.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        lock = Path(self.root, "requirements.lock").read_text(encoding="utf-8")
        pins = [
            re.sub(r"\[[^\]]*\]", "", line).removesuffix("\\").rstrip()
            for line in lock.splitlines()
            if re.match(r"[A-Za-z0-9]", line)
        ]
        assert pins
        self._folder = tempfile.mkdtemp(prefix="headrace-build-")
        constraints = Path(self._folder, "_constraints.txt")
        own = f"headrace=={self.metadata.version}"
        constraints.write_text("\n".join([own, *pins, ""]), encoding="utf-8")
        build_data["force_include"][str(constraints)] = "headrace/_constraints.txt"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            shutil.rmtree(self._folder)
