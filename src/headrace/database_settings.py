"""The settings of the database and of the pool."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from headrace.setting_groups import Group

#: A name that SQL accepts between quotes without escapes.
_SCHEMA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")


class DatabaseSettings(Group):
    """The database and the one pool that every process opens to it."""

    url: SecretStr | None = Field(
        None,
        description="libpq URL or DSN. Else `DATABASE_URL`, `DATABASE_URI`, `POSTGRES_URI`.",
    )
    url_source: str | None = Field(
        None, exclude=True, description="Which variable the URL came from.", repr=False
    )
    migration_url: SecretStr | None = Field(
        None,
        description="Direct URL for migrations, where `url` goes through a pooler."
        " Else `MIGRATION_DATABASE_URL`.",
    )
    password_file: Path | None = Field(
        None,
        description="File with the password, which replaces that of `url`. It is read for each new"
        " connection, so a mounted Secret may change. `migration_url` uses it if it has no password"
        " of its own.",
    )
    password_command: tuple[str, ...] = Field(
        (),
        description='Command that prints the password, as a JSON list: `["program", "argument"]`.'
        " No shell is involved. In place of `password_file`.",
    )
    password_command_timeout_seconds: float = Field(
        5.0, gt=0, description="How long `password_command` may take."
    )
    password_cache_seconds: float = Field(
        300.0,
        ge=0,
        description="How long a password that `password_command` has printed is used for new"
        " connections. When it is refused, the command is executed again.",
    )
    login: Literal["password", "rds", "cloud_sql", "entra"] = Field(
        "password",
        description="How the roles log in: `password`, or by a short-lived token of a cloud's IAM,"
        " made for new connections: `rds` (Amazon RDS and Aurora), `cloud_sql` (Google), `entra`"
        " (Azure). It needs the extra of that name: `pip install 'headrace[rds]'`.",
    )
    pool_min: int = Field(2, ge=1, description="Connections each process keeps open.")
    pool_max: int = Field(10, ge=1, description="Connections each process may open.")
    run_acquire_timeout_seconds: float = Field(
        30.0, gt=0, description="How long a running graph waits for a connection before it fails."
    )
    pool_max_waiting: int = Field(
        1000, ge=1, description="Requests that may wait for a connection; more get 503 at once."
    )
    acquire_timeout_seconds: float = Field(
        5.0, gt=0, description="How long a request waits for a connection before 503."
    )
    away_timeout_seconds: float = Field(
        30.0,
        ge=0,
        description="How long a request waits while the database does not answer, before 503."
        " Within this time, requests that read, or that may be done twice, are repeated. 0: not at"
        " all.",
    )
    lists_part: float = Field(
        0.3,
        gt=0,
        le=1,
        description="Part of the pool that searches, counts, histories and other lists may hold;"
        " one connection at least.",
    )
    changes_part: float = Field(
        0.3,
        gt=0,
        le=1,
        description="Part of the pool that changes of states, copies and deletions of threads, and"
        " the cancelling of many runs, may hold; one connection at least.",
    )
    part_wait_seconds: float = Field(
        5.0, gt=0, description="How long a list or a change waits for its part before 503."
    )
    part_max_waiting: int = Field(
        500,
        ge=1,
        description="Lists that may wait for their part, and as many changes; more get 503 at"
        " once.",
    )
    open_timeout_seconds: float = Field(
        15.0, gt=0, description="How long start-up waits for the database."
    )
    connect_timeout_seconds: int = Field(5, ge=1, description="libpq connect_timeout.")
    max_idle_seconds: float = Field(
        240.0, gt=0, description="Idle connections above pool_min close after this."
    )
    max_lifetime_seconds: float = Field(
        1800.0, gt=0, description="Connections are replaced after this."
    )
    transaction_timeout_seconds: float = Field(
        30.0, ge=0, description="Bound on each of headrace's own transactions; 0 means none."
    )
    silent_seconds: float = Field(
        10.0,
        ge=1,
        description="After this time without an answer, Postgres is asked over a new connection"
        " whether it works on the statement. If it does not, the connection is ended. Not behind a"
        " pooler.",
    )
    prepared_statements: Literal["auto", "on", "off"] = Field(
        "auto", description="`auto`: on when the connection is direct, off behind a pooler."
    )
    application_name: str = Field("headrace", description="Shown in pg_stat_activity.")
    schema_name: str = Field(
        "",
        alias="schema",  # pydantic has a method of that name
        description="Schema of headrace's tables and LangGraph's; `headrace db upgrade` creates it."
        " Empty: the first of the role's `search_path`.",
    )

    @field_validator("schema_name")
    @classmethod
    def _own_schema(cls, value: str) -> str:
        if value and not _SCHEMA_NAME.fullmatch(value):
            raise ValueError(
                "a schema has up to 63 letters, digits, _ and -, and begins with a letter or _"
            )
        if value.lower().startswith("pg_") or value.lower() == "information_schema":
            raise ValueError(f"schema {value} is Postgres's own; choose another name")
        return value

    @field_validator("password_command")
    @classmethod
    def _program(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value and not value[0].strip():
            raise ValueError('the first item of password_command is the program, such as "aws"')
        return value

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if self.password_file is not None and self.password_command:
            raise ValueError(
                "database.password_file and database.password_command are both set; unset one"
            )
        if self.login != "password" and (self.password_file or self.password_command):
            raise ValueError(
                f"database.login is {self.login}, whose tokens are the passwords; unset"
                " database.password_file and database.password_command"
            )
        return self

    @model_validator(mode="after")
    def _pool_bounds(self) -> Self:
        if self.pool_min > self.pool_max:
            raise ValueError(
                f"database.pool_min ({self.pool_min}) is above database.pool_max"
                f" ({self.pool_max}); lower the first or raise the second"
            )
        return self
