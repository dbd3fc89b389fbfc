"""Tokens of clouds as passwords: signed by botocore here, or made by fakes of the metadata services
that speak their real protocols.
"""

import hashlib
import hmac
import importlib
import sys
import time
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import psycopg
import pytest
from structlog.testing import capture_logs

from headrace.db.iam_tokens import iam_tokens
from headrace.db.logins import Login, login_of
from headrace.db.passwords import PasswordNotRead
from headrace.errors import StartupRefusal
from tests.support.database import database_settings
from tests.support.metadata_service import Metadata, metadata_service

RDS = "postgresql://app@db.id.eu-west-1.rds.amazonaws.com:5433/agents?sslmode=verify-full"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret-key")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)


def signature(token: str, secret: str) -> str:
    """What AWS computes: Signature Version 4 of the presigned request, without its signature."""
    parts = urlsplit(f"https://{token}")
    fields = dict(parse_qsl(parts.query, keep_blank_values=True))
    fields.pop("X-Amz-Signature")
    query = "&".join(f"{quote(k, '')}={quote(v, '')}" for k, v in sorted(fields.items()))
    empty = hashlib.sha256(b"").hexdigest()
    request = f"GET\n/\n{query}\nhost:{parts.netloc}\n\nhost\n{empty}"
    scope = fields["X-Amz-Credential"].partition("/")[2]
    text = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            fields["X-Amz-Date"],
            scope,
            hashlib.sha256(request.encode()).hexdigest(),
        ]
    )
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def test_a_token_of_rds_is_the_signature_that_aws_computes(aws: None) -> None:
    token = iam_tokens("rds", RDS).read(again=False)
    host, _, query = token.partition("/?")
    fields = dict(parse_qsl(query))
    assert host == "db.id.eu-west-1.rds.amazonaws.com:5433"
    assert (fields["Action"], fields["DBUser"]) == ("connect", "app")
    assert fields["X-Amz-Expires"] == "900"
    assert "/eu-west-1/rds-db/" in fields["X-Amz-Credential"]
    assert fields["X-Amz-Signature"] == signature(token, "s3cret-key")


def test_each_connection_gets_a_token_of_its_own(
    aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = iam_tokens("rds", RDS)
    first = tokens.read(again=False)
    time.sleep(1.1)  # the time of a signature has seconds
    assert tokens.read(again=False) != first


def test_no_credentials_are_a_sentence_without_secrets(
    aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(PasswordNotRead, match="no token of rds") as missing:
        iam_tokens("rds", RDS).read(again=False)
    assert "s3cret" not in str(missing.value)


def test_cloud_sql_logs_in_with_the_token_of_the_metadata_server(
    guarded_postgres: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    with metadata_service() as told:
        monkeypatch.setenv("GCE_METADATA_HOST", told.url)
        monkeypatch.setenv("GCE_METADATA_ROOT", told.url)
        monkeypatch.setenv("GCE_METADATA_IP", told.url)
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        # It reads the address when it is imported.
        importlib.reload(importlib.import_module("google.auth.compute_engine._metadata"))
        follow_tokens("cloud_sql", guarded_postgres, told)
        assert any("sqlservice.login" in one for one in told.asked)


def test_entra_logs_in_with_the_token_of_a_managed_identity(
    guarded_postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with metadata_service() as told:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://{told.url}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", "here")
        follow_tokens("entra", guarded_postgres, told)
        assert any("ossrdbms-aad.database.windows.net" in one for one in told.asked)


def follow_tokens(kind: str, guarded_postgres: Any, told: Metadata) -> None:
    """Log in; and again after the server has stopped to accept the first token."""
    guarded_postgres.set_password(told.token)
    login = login_of(database_settings(guarded_postgres.url, login=kind))
    with capture_logs() as lines:
        login.connect_blocking().close()
        login.connect_blocking().close()
        told.token = "second-t0ken"
        guarded_postgres.set_password(told.token)
        login.connect_blocking().close()
    assert login.problem is None
    assert "t0ken" not in str(lines)
    assert "t0ken" not in login.conninfo


@pytest.mark.parametrize(
    ("kind", "url", "what"),
    [
        ("rds", RDS.replace("verify-full", "require"), "sslmode is require"),
        ("entra", "postgresql://app@db.example.org/agents", "sslmode is prefer"),
        ("cloud_sql", RDS.replace("app@", ""), "it names no user"),
        ("rds", RDS.replace("db.id", "a.example,db.id"), "several hosts"),
        ("rds", "postgresql://app@/agents", "it names no host"),
    ],
)
def test_urls_that_tokens_do_not_go_with(kind: Any, url: str, what: str) -> None:
    with pytest.raises(StartupRefusal, match="HR342") as refused:
        login_of(database_settings(url, login=kind))
    assert what in refused.value.what


def test_a_library_that_is_missing_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.auth", None)
    url = RDS.replace("rds.amazonaws.com", "example.org")
    with pytest.raises(StartupRefusal, match="HR341") as refused:
        login_of(database_settings(url, login="cloud_sql"))
    assert "headrace[cloud-sql]" in refused.value.remedy


def test_migrations_get_tokens_unless_they_have_a_password(aws: None) -> None:
    owner = RDS.replace("app@", "owner@")
    settings = database_settings(RDS, login="rds", migration_url=owner)
    passwords = login_of(settings, migrations=True).passwords
    assert passwords is not None
    assert "DBUser=owner" in passwords.first()
    own = database_settings(RDS, login="rds", migration_url=RDS.replace("app@", "owner:own@"))
    assert login_of(own, migrations=True).passwords is None


def test_tokens_and_a_password_file_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="unset"):
        database_settings(RDS, login="rds", password_file="/run/password")


def test_a_refused_login_is_told_without_the_token(
    guarded_postgres: Any, aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    guarded_postgres.set_password("another")
    url = guarded_postgres.url
    login = Login(url, login_of(database_settings(url, login="rds")).passwords)
    with capture_logs() as lines, pytest.raises(psycopg.OperationalError):
        login.connect_blocking()
    assert login.problem == "the database has refused the last login by database.login=rds"
    assert "X-Amz" not in str(lines)
