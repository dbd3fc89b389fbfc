"""All settings of headrace, typed and grouped. Only this module reads the environment.

Top-level fields are ``HEADRACE_<NAME>``; grouped ones ``HEADRACE_<GROUP>__<NAME>``, for example
``HEADRACE_DATABASE__POOL_MAX``. Durations carry their unit in the name.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from headrace.auth_settings import AuthSettings
from headrace.caller_settings import CallerSettings
from headrace.checkpointer_settings import CheckpointerSettings
from headrace.cron_settings import CronSettings
from headrace.database_settings import DatabaseSettings
from headrace.edge_settings import EdgeSettings
from headrace.event_settings import EventSettings, IdempotencySettings
from headrace.index_settings import IndexSettings
from headrace.observability_settings import MetricsSettings, ObservabilitySettings
from headrace.request_settings import AnswerSettings, RequestSettings
from headrace.retention_settings import RetentionSettings, StoreSettings
from headrace.setting_groups import (
    Group,
    ServerSettings,
    WorkerSettings,
    comma_separated,
)
from headrace.usage_settings import UsageSettings
from headrace.webhook_settings import WebhookSettings

#: The variables that may hold the database URL. The first one that is set counts.
DATABASE_URL_VARIABLES = ("HEADRACE_DATABASE__URL", "DATABASE_URL", "DATABASE_URI", "POSTGRES_URI")
MIGRATION_URL_VARIABLES = ("HEADRACE_DATABASE__MIGRATION_URL", "MIGRATION_DATABASE_URL")


#: Shorter keys are too easy to guess.
MIN_API_KEY_LENGTH = 16
_PLAIN_KEY = re.compile(r"[!-~]+")


class _Environment(EnvSettingsSource):
    """The environment. ``HEADRACE_AUTH`` is a word, and the beginning of a group's names."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        if field_name == "auth" and not value.startswith("{"):
            return {"mode": value}
        return super().decode_complex_value(field_name, field, value)


class Settings(BaseSettings):
    """All settings. A process creates them at its start and passes them down."""

    model_config = SettingsConfigDict(
        env_prefix="HEADRACE_",
        env_nested_delimiter="__",
        extra="ignore",
        frozen=True,
        # A value may be a secret.
        hide_input_in_errors=True,
    )

    def __init__(self, **values: Any) -> None:
        """
        :param values: these win over the environment. A group is a mapping.
        :raises TypeError: no setting has this name.
        """
        # pydantic-settings has parameters of its own, which begin with an underscore.
        given = [name for name in values if not name.startswith("_")]
        if unknown := [name for name in given if name not in type(self).model_fields]:
            raise TypeError(
                f"headrace.Settings has no {unknown[0]!r}; docs/configuration.md lists all settings"
            )
        super().__init__(**values)

    @classmethod
    def settings_customise_sources(  # type: ignore[override] # called by keyword
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        **_others: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Where settings come from; the first one wins."""
        return init_settings, _Environment(settings_cls)

    app: str = Field(
        "",
        description="`module:app` of your own to serve, in place of headrace's server; as"
        " `--app` of `headrace serve` and `headrace dev`.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8123, ge=0, le=65535, description="Port to listen on.")
    processes: int = Field(2, ge=1, description="Server processes.")
    config: Path | None = Field(
        None, description="Path of langgraph.json; default ./langgraph.json if it is there."
    )
    model: str = Field(
        "",
        description="Model of the built-in chat graph, e.g. `openai:gpt-5`; empty: the echo model.",
    )
    chat_messages: int = Field(
        100,
        ge=1,
        description="How many of a conversation's latest messages the built-in chat graph gives to"
        " its model, besides the system messages that the conversation begins with. The thread"
        " keeps all.",
    )
    chat_graph: str = Field(
        "", description="Graph behind /chat; default `chat`, else the first of the manifest."
    )
    api_keys: SecretStr | None = Field(
        None,
        description="Keys, separated by commas. Callers send one as `x-api-key`;"
        " `openssl rand -hex 24` makes one.",
    )
    runtime_dir: Path | None = Field(
        None, description="Status slots and metric files of the pod; set by `headrace serve`."
    )
    auth: AuthSettings = Field(default_factory=AuthSettings)
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    server: ServerSettings = Field(default_factory=ServerSettings)
    edge: EdgeSettings = Field(default_factory=EdgeSettings)
    requests: RequestSettings = Field(default_factory=RequestSettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    events: EventSettings = Field(default_factory=EventSettings)
    idempotency: IdempotencySettings = Field(default_factory=IdempotencySettings)
    checkpointer: CheckpointerSettings = Field(default_factory=CheckpointerSettings)
    answers: AnswerSettings = Field(default_factory=AnswerSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    index: IndexSettings = Field(default_factory=IndexSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    callers: CallerSettings = Field(default_factory=CallerSettings)
    crons: CronSettings = Field(default_factory=CronSettings)
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    usage: UsageSettings = Field(default_factory=UsageSettings)
    webhooks: WebhookSettings = Field(default_factory=WebhookSettings)
    observability: ObservabilitySettings = Field(default_factory=ObservabilitySettings)

    @property
    def accepted_api_keys(self) -> tuple[str, ...]:
        """The keys of the setting; empty when callers need no key."""
        given = self.api_keys.get_secret_value() if self.api_keys else ""
        return comma_separated(given)

    @property
    def credentials_needed(self) -> bool:
        """Whether every caller needs a key or a token."""
        auth = self.auth
        return bool(self.accepted_api_keys) or auth.takes_tokens or auth.mode == "required"

    def asking_everybody(self) -> "Settings":
        """These settings where a handler of the user tells who calls: nobody is anonymous."""
        auth = self.auth.model_copy(update={"mode": "required"})
        return self.model_copy(update={"auth": auth})

    @property
    def several_callers(self) -> bool:
        """Whether the settings alone say that there are several callers. If not, there is one
        caller besides those with keys of the database: the key of the settings, or anonymous.
        """
        auth = self.auth
        several = len(set(self.accepted_api_keys)) > 1
        return several or auth.takes_tokens or auth.mode == "required"

    @property
    def local_only(self) -> bool:
        """Whether only callers on this machine are answered, because there are no keys."""
        return self.auth.mode == "auto" and not self.credentials_needed

    @property
    def docs_served(self) -> bool:
        """Whether the pages of the API's description are served (``edge.docs``)."""
        if self.edge.docs == "auto":
            return self.auth.mode != "none"
        return self.edge.docs == "on"

    @model_validator(mode="after")
    def _keys_that_keep_something_out(self) -> Self:
        keys = self.accepted_api_keys
        if any(len(key) < MIN_API_KEY_LENGTH or not _PLAIN_KEY.fullmatch(key) for key in keys):
            raise ValueError(
                f"each key of api_keys needs {MIN_API_KEY_LENGTH} characters or more, all of them"
                " printable ASCII without spaces; `openssl rand -hex 24` makes one"
            )
        if keys and self.auth.mode == "none":
            raise ValueError("auth is none, but there are api_keys; unset one of them")
        return self

    @model_validator(mode="after")
    def _two_ports(self) -> Self:
        if self.metrics.port and self.metrics.port == self.port:
            raise ValueError(
                f"port and metrics.port are both {self.port}; health and metrics need one of their"
                " own, or 0"
            )
        return self

    @model_validator(mode="after")
    def _at_least_one_role(self) -> Self:
        if not (self.worker.enabled or self.server.api):
            raise ValueError(
                "worker.enabled and server.api are both off, so the process would do nothing;"
                " unset one of them"
            )
        return self

    @model_validator(mode="after")
    def _database_url_from_usual_names(self) -> Self:
        found = self.database
        if found.url is None:
            name, value = _first_set(DATABASE_URL_VARIABLES)
            if value:
                found = found.model_copy(update={"url": SecretStr(value), "url_source": name})
        else:
            found = found.model_copy(
                update={"url_source": found.url_source or "HEADRACE_DATABASE__URL"}
            )
        if found.migration_url is None:
            _, value = _first_set(MIGRATION_URL_VARIABLES)
            if value:
                found = found.model_copy(update={"migration_url": SecretStr(value)})
        object.__setattr__(self, "database", found)
        return self


def _first_set(names: tuple[str, ...]) -> tuple[str | None, str | None]:
    for name in names:
        if value := os.environ.get(name):
            return name, value
    return None, None


def environment() -> dict[str, str]:
    """A copy of the process environment, for starting child processes."""
    return dict(os.environ)


def set_environment(variables: Mapping[str, str]) -> None:
    """Add variables to this process's environment (a manifest's ``env``, a ``.env`` file)."""
    os.environ.update(variables)


def restore_environment(variables: Mapping[str, str]) -> None:
    """Replace this process's environment by an earlier copy from :func:`environment`."""
    os.environ.clear()
    os.environ.update(variables)


def colors_welcome() -> bool:
    """Whether a terminal may get colours: not with `NO_COLOR`, and not on a dumb terminal."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def opentelemetry_variables() -> dict[str, str]:
    """The ``OTEL_*`` variables, with the names that all of OpenTelemetry knows."""
    return {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}


def multiprocess_dir() -> Path | None:
    """Directory of prometheus-client's multiprocess files, or None in a single process."""
    value = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(value) if value else None


def runtime_dir() -> Path | None:
    """``HEADRACE_RUNTIME_DIR``, for gunicorn's hooks and processes, which need no settings here."""
    value = os.environ.get("HEADRACE_RUNTIME_DIR")
    return Path(value) if value else None


def database_url_for_tests() -> str | None:
    """``HEADRACE_TEST_DATABASE_URL``: a Postgres server for :mod:`headrace.testing`."""
    return os.environ.get("HEADRACE_TEST_DATABASE_URL") or None


def unknown_variables() -> list[str]:
    """``HEADRACE_*`` variables that no setting reads: usually typing errors."""
    known = {f"HEADRACE_{name.upper()}" for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, Group):
            known |= {
                f"HEADRACE_{name}__{field.alias or key}".upper()
                for key, field in group.model_fields.items()
            }
    known |= {
        "HEADRACE_REQUIRE_TOOLS",
        "HEADRACE_SERVER__HEARTBEAT_SECONDS",  # the earlier name of server.ping_seconds
        "HEADRACE_TEST_DATABASE_URL",
        "HEADRACE_TEST_OFFICIAL",
    }
    return sorted(name for name in os.environ if name.startswith("HEADRACE_") and name not in known)
