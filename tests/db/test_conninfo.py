"""The database URL: cleaned, completed, and silent about its password."""

import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from headrace.database_settings import DatabaseSettings
from headrace.db.conninfo import connection_string, describe
from headrace.errors import StartupRefusal
from headrace.settings import Settings
from tests.support.database import database_settings


def parts(url: str, **changes: object) -> dict:
    return conninfo_to_dict(connection_string(database_settings(url, **changes)))


@pytest.mark.parametrize(
    "scheme",
    [
        "postgresql",
        "postgres",
        "postgresql+psycopg",
        "postgresql+psycopg_async",
        "postgresql+psycopg2",
        "postgresql+asyncpg",
        "postgres+psycopg",
    ],
)
def test_a_drivers_suffix_is_stripped(scheme):
    found = parts(f"{scheme}://ada:s3cret@db:5433/chat")
    assert (found["user"], found["password"]) == ("ada", "s3cret")
    assert (found["host"], found["port"], found["dbname"]) == ("db", "5433", "chat")


def test_a_dsn_of_keywords_is_taken_too():
    found = parts("host=db dbname=chat user=ada password='s3 cret'")
    assert (found["host"], found["password"]) == ("db", "s3 cret")


def test_defaults_complete_the_url():
    found = parts("postgresql://db/chat", connect_timeout_seconds=7, application_name="edge")
    assert (found["connect_timeout"], found["application_name"]) == ("7", "edge")
    assert found["keepalives_idle"] == "30"
    assert found["tcp_user_timeout"] == "30000"
    assert "options" not in found, "a pooler would refuse it"


def test_what_the_url_says_wins():
    url = "postgresql://db/chat?connect_timeout=3&application_name=mine&keepalives_idle=90"
    found = parts(url + "&sslmode=require")
    assert (found["connect_timeout"], found["application_name"]) == ("3", "mine")
    assert (found["keepalives_idle"], found["sslmode"]) == ("90", "require")


def test_several_hosts_are_kept():
    url = "postgresql://ada@db1:5432,db2:5433/chat?target_session_attrs=read-write"
    found = parts(url)
    assert (found["host"], found["port"]) == ("db1,db2", "5432,5433")
    assert found["target_session_attrs"] == "read-write"
    assert describe(connection_string(database_settings(url))) == "db1,db2:5432,5433/chat"


def test_an_at_in_names_is_no_fault_where_it_is_encoded():
    found = parts("postgresql://a%40da:s%40t@db/ch%40t")
    assert (found["user"], found["password"], found["dbname"]) == ("a@da", "s@t", "ch@t")


def test_a_percent_encoded_password_arrives_decoded():
    assert parts("postgresql://ada:s%40%3A%2F%25@db/chat")["password"] == "s@:/%"


def test_migrations_take_their_own_url_when_there_is_one():
    settings = database_settings(
        "postgresql://pooler/chat", migration_url=SecretStr("postgresql+psycopg://direct/chat")
    )
    assert conninfo_to_dict(connection_string(settings))["host"] == "pooler"
    assert conninfo_to_dict(connection_string(settings, migrations=True))["host"] == "direct"
    alone = database_settings("postgresql://direct/chat")
    assert conninfo_to_dict(connection_string(alone, migrations=True))["host"] == "direct"


def test_a_missing_url_is_refused_with_what_to_set():
    with pytest.raises(StartupRefusal, match=r"DATABASE_URL.*headrace dev") as refused:
        connection_string(DatabaseSettings())
    assert refused.value.code == "HR303"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:s3cret%zz@db/chat",
        'postgresql://ada:s3"cret%zz@db/chat',
        'postgresql://ada:x"s3cret"y%zz"@db/chat',
        "postgresql://ada:s3cret\n%zz@db/chat",
        "postgresql://ada:s3cret@[::1/chat",
        "postgresql://ada:s3cret@db/chat?nonsense=1",
        "mysql://ada:s3cret@db/chat",
        "ada:s3cret@db/chat",
        # libpq ends the password at the first of these.
        "postgresql://ada:s3@cret@db/chat",
        "postgresql://ada:s3@cr%65t@db/chat",
        "postgresql://ada:s3/cret@db/chat",
        "postgresql://ada:5/s3cret@db/chat",
        "postgresql://ada:@s3cret@db/chat",
        "postgresql://ada:@s3:cret@db/chat",
        "postgresql://ada:x@s3,cret@db:5432,db2:5433/chat",
        "postgresql://ada:x@y/s3cret@db/chat",
        "host=db password='s3cret",
        "host=db pasword=s3cret",
    ],
)
def test_a_broken_url_is_refused_without_its_password(url):
    with pytest.raises(StartupRefusal) as refused:
        connection_string(database_settings(url, url_source="POSTGRES_URI"))
    assert refused.value.code == "HR304"
    assert refused.value.where == "POSTGRES_URI"
    for secret in ("s3", "cret"):
        assert secret not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__, "the driver's own message quotes the URL"


@pytest.mark.parametrize(
    ("url", "described"),
    [
        ("postgresql://ada:s3cret@db:5433/chat", "db:5433/chat"),
        ("postgresql://ada:s3cret@db", "db:5432/"),
        ("postgresql://ada:s3cret@/chat?host=%2Frun%2Fpg", "/run/pg:5432/chat"),
        ("hostaddr=10.0.0.1 dbname=chat password=s3cret", "10.0.0.1:5432/chat"),
        ("dbname=chat password=s3cret", "local socket:5432/chat"),
    ],
)
def test_a_description_has_the_address_and_no_secret(url, described):
    assert describe(connection_string(database_settings(url))) == described


def test_settings_show_no_password():
    settings = database_settings(
        "postgresql://ada:s3cret@db/chat", migration_url=SecretStr("postgresql://ada:s3cret@db")
    )
    assert "s3cret" not in f"{settings!r} {settings} {settings.model_dump()}"


def test_the_first_of_the_usual_variables_wins_and_is_named(monkeypatch):
    monkeypatch.setenv("POSTGRES_URI", "postgresql://third/chat")
    monkeypatch.setenv("DATABASE_URI", "postgresql://second/chat")
    settings = Settings().database
    assert settings.url_source == "DATABASE_URI"
    assert describe(connection_string(settings)) == "second:5432/chat"


def test_of_several_hosts_the_one_that_takes_writes_is_meant():
    found = parts("postgresql://a:5432,b:5433/chat")
    assert found["target_session_attrs"] == "read-write"
    assert "target_session_attrs" not in parts("postgresql://a/chat")
    assert parts("host=a,b target_session_attrs=any")["target_session_attrs"] == "any"
