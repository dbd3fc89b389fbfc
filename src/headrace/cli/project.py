"""What ``headrace dev`` serves: its command line, and the present files of its folder.

Read anew for each start of a server.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import typer

from headrace.cli.options import read_dotenv, read_settings
from headrace.errors import StartupRefusal
from headrace.graphs.manifest import DEFAULT_NAME
from headrace.settings import Settings, environment, restore_environment, set_environment


class Project:
    """The settings and the manifest as the files say now; the environment is set accordingly.

    ``fixed`` variables keep their values until the end, whatever a file says.
    """

    def __init__(
        self,
        folder: Path,
        *,
        host: str | None,
        port: int | None,
        processes: int | None,
        config: Path | None,
        app: str | None,
    ) -> None:
        self.folder = folder
        given = {"HOST": host, "PORT": port, "PROCESSES": processes, "CONFIG": config, "APP": app}
        self._fixed = {
            f"HEADRACE_{name}": str(value) for name, value in given.items() if value is not None
        }
        self._before = environment()
        self._told: set[str] = set()
        self._folders: list[Path] = []
        read_dotenv(folder)
        set_environment(self._fixed)
        self.settings, self.manifest = read_settings()

    def serve_manifest(self, path: Path) -> None:
        """Serve this manifest, not one of the folder."""
        self.fix(HEADRACE_CONFIG=str(path))
        self.settings, self.manifest = read_settings()

    def fix(self, **variables: str) -> None:
        """Set these variables for all servers that are started from here."""
        self._fixed |= variables
        set_environment(variables)
        self.settings = Settings()

    def fix_what_is_started(self) -> None:
        """Fix what cannot change under a running ``headrace dev``: its address and its data.

        Also the manifest, if there was one: a manifest that disappears is a mistake, not a wish for
        the built-in graph.
        """
        present = environment()
        fixed = {
            "HEADRACE_HOST": self.settings.host,
            "HEADRACE_PORT": str(self.settings.port),
            # The status board and the metric files of all servers of this start.
            "HEADRACE_RUNTIME_DIR": present["HEADRACE_RUNTIME_DIR"],
            "PROMETHEUS_MULTIPROC_DIR": present["PROMETHEUS_MULTIPROC_DIR"],
        }
        if self.settings.database.url is not None:
            fixed["HEADRACE_DATABASE__URL"] = self.settings.database.url.get_secret_value()
        if self.manifest is not None:
            path = self.settings.config or self.folder / DEFAULT_NAME
            fixed["HEADRACE_CONFIG"] = str(path.absolute())
        self.fix(**fixed)

    def read_again(self) -> None:
        """Read files and settings anew.

        :raises StartupRefusal: HR101, HR104, HR109, HR111 for the manifest.
        :raises ValidationError: a setting has a wrong value.
        """
        restore_environment(self._before)
        try:
            read_dotenv(self.folder)
            self._tell_what_stays(environment())
            set_environment(self._fixed)
            settings, manifest = read_settings()
            if manifest is not None:
                manifest.import_folders()
        finally:
            # Even if a file is wrong: the present server goes on with these variables.
            set_environment(self._fixed)
        self.settings, self.manifest = settings, manifest

    def watched(self) -> tuple[list[Path], list[Path]]:
        """Folders with code, and single files, whose changes start a new server."""
        files = [self.folder / ".env"]
        if self.settings.config is not None:
            files.append(self.settings.config.absolute())
        if self.manifest is not None:
            # A file that is gone may come back.
            with suppress(StartupRefusal):
                self._folders = self.manifest.import_folders()
            if isinstance(self.manifest.env, str):
                files.append(self.manifest.folder.absolute() / self.manifest.env)
        return [self.folder, *self._folders], files

    def _tell_what_stays(self, found: Mapping[str, str]) -> None:
        for name, value in self._fixed.items():
            wanted = found.get(name, value)
            if wanted != value and name != "HEADRACE_CONFIG" and wanted not in self._told:
                self._told.add(wanted)
                typer.echo(f"{name} stays as it was; start headrace dev again to change it")
