"""Command line options that several commands have; each stands for a setting."""

from pathlib import Path
from typing import Annotated

import typer
from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_settings import SettingsError

from headrace.errors import StartupRefusal
from headrace.graphs.manifest import Manifest, apply_environment, find_manifest
from headrace.settings import Settings, environment, set_environment

Host = Annotated[str | None, typer.Option(help="Address to listen on (HEADRACE_HOST).")]
Port = Annotated[int | None, typer.Option(help="Port to listen on (HEADRACE_PORT).")]
Processes = Annotated[int | None, typer.Option(help="Server processes (HEADRACE_PROCESSES).")]
App = Annotated[
    str | None,
    typer.Option(
        help="module:app of your own that uses headrace.lifespan, instead of headrace's server"
        " (HEADRACE_APP)."
    ),
]
Config = Annotated[Path | None, typer.Option(help="Path of langgraph.json (HEADRACE_CONFIG).")]


def read_dotenv(folder: Path) -> None:
    """Set the variables of the folder's ``.env`` that the environment does not have."""
    present = environment()
    values = dotenv_values(folder / ".env").items()
    set_environment({name: value for name, value in values if value and name not in present})


def settings_with(
    *, host: str | None, port: int | None, processes: int | None, config: Path | None
) -> Settings:
    """The settings with the given options. Processes that are started from here get them too.

    The manifest's ``env`` applies to variables that neither options nor environment set.

    :raises StartupRefusal: HR104, HR109, HR111 the manifest.
    """
    given = {"HOST": host, "PORT": port, "PROCESSES": processes, "CONFIG": config}
    set_environment(
        {f"HEADRACE_{name}": str(value) for name, value in given.items() if value is not None}
    )
    return read_settings()[0]


def read_settings() -> tuple[Settings, Manifest | None]:
    """The settings of the environment, and the manifest; the manifest's ``env`` goes into the
    environment.

    :raises StartupRefusal: HR104, HR109, HR111 the manifest.
    """
    settings = Settings()
    if (manifest := find_manifest(settings)) is None:
        return settings, None
    apply_environment(manifest)
    return Settings(), manifest


def settings_refusal(error: ValidationError | SettingsError) -> StartupRefusal:
    """HR001 with the names of the variables, never their values, which may be secrets."""
    where, what = "settings", str(error)
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_context=False, include_input=False)
        named = [_variable(item["loc"]) for item in found]
        where = ", ".join(dict.fromkeys(named))
        what = "; ".join(dict.fromkeys(item["msg"].removeprefix("Value error, ") for item in found))
    return StartupRefusal(
        "HR001",
        where=where,
        what=what,
        remedy="Correct it; `headrace settings` lists every setting.",
    )


def _variable(location: tuple[int | str, ...]) -> str:
    return "__".join(["HEADRACE", *map(str, location)]).upper().replace("__", "_", 1)
