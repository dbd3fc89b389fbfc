"""A password that changes while the process runs: in a file or from a command, on a real server."""

import json
import stat
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg import AsyncConnection
from structlog.testing import capture_logs

from headrace.db.logins import Login, login_of
from headrace.db.passwords import PasswordCommand, PasswordFile, PasswordNotRead, Passwords
from headrace.db.pool_builder import build_pool
from headrace.db.probe import probe
from headrace.db.schema import state
from headrace.errors import StartupRefusal
from headrace.settings import Settings
from tests.db.conditions import until_at_rest
from tests.support.database import database_settings
from tests.support.waiting import eventually


async def opens(login: Login) -> None:
    async with await login.connect(AsyncConnection.connect) as connection:
        await connection.execute("SELECT 1")


def script(folder: Path, body: str) -> tuple[str, str]:
    """A command that executes Python, and the file that counts its executions."""
    path, calls = folder / "token.py", folder / "calls"
    path.write_text(f"open({str(calls)!r}, 'a').write('x')\n{body}")
    return str(path), str(calls)


def executions(calls: str) -> int:
    return len(Path(calls).read_text())


async def test_a_file_is_read_for_each_connection(guarded_postgres, tmp_path):
    file = tmp_path / "password"
    login = Login(guarded_postgres.url, Passwords(PasswordFile(file)))
    for password in ("first one", "sécond", "third\t"):
        guarded_postgres.set_password(password)
        file.write_text(f"{password}\n")
        await opens(login)
        login.connect_blocking().close()
    assert login.problem is None


async def test_the_file_replaces_the_password_of_the_url(guarded_postgres, tmp_path):
    guarded_postgres.set_password("right")
    file = tmp_path / "password"
    file.write_text("right")
    url = guarded_postgres.url.replace("app@", "app:wrong@")
    settings = database_settings(url, password_file=file)
    login = login_of(settings)
    assert "wrong" not in login.conninfo
    assert (await probe(login)).database == "postgres"


def test_the_migration_url_keeps_its_own_password(tmp_path):
    file = tmp_path / "password"
    file.write_text("right")
    url = "postgresql://app@host/d"
    own = {"migration_url": "postgresql://owner:own@host/d", "password_file": file}
    login = login_of(database_settings(url, **own), migrations=True)
    assert login.passwords is None
    assert "own" in login.conninfo
    none = {"migration_url": "postgresql://owner@host/d", "password_file": file}
    assert login_of(database_settings(url, **none), migrations=True).passwords is not None


async def test_the_password_before_works_until_the_server_knows_the_new_one(
    guarded_postgres, tmp_path
):
    """The Secret changes first, the role later."""
    guarded_postgres.set_password("old")
    file = tmp_path / "password"
    file.write_text("old")
    login = Login(guarded_postgres.url, Passwords(PasswordFile(file)))
    await opens(login)
    file.write_text("new")
    with capture_logs() as lines:
        await opens(login)
        await opens(login)
        assert login.problem is not None
        assert "the one before it still works" in login.problem
        guarded_postgres.set_password("new")
        await opens(login)
    assert login.problem is None
    assert [line["event"] for line in lines] == ["password_refused", "password_changed"]
    assert "old" not in str(lines)


async def test_a_process_without_the_new_password_says_so_until_it_has_it(
    guarded_postgres, tmp_path
):
    """The role changes first, the Secret later."""
    guarded_postgres.set_password("old-s3cret")
    file = tmp_path / "password"
    file.write_text("old-s3cret")
    login = Login(guarded_postgres.url, Passwords(PasswordFile(file)))
    await opens(login)
    guarded_postgres.set_password("new-s3cret")
    with capture_logs() as lines:
        for _ in range(2):
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                await opens(login)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            login.connect_blocking()
    assert [line["event"] for line in lines] == ["login_refused"]
    assert "s3cret" not in str(lines)
    assert login.problem == "the database has refused the last login by database.password_file"
    file.write_text("new-s3cret")
    await opens(login)
    assert login.problem is None


async def test_a_file_that_is_gone_for_a_moment_changes_nothing(guarded_postgres, tmp_path):
    guarded_postgres.set_password("good")
    file = tmp_path / "password"
    with pytest.raises(PasswordNotRead, match="No such file"):
        await opens(Login(guarded_postgres.url, Passwords(PasswordFile(file))))
    file.write_text("good")
    login = Login(guarded_postgres.url, Passwords(PasswordFile(file)))
    await opens(login)
    file.unlink()
    with capture_logs() as lines:
        await opens(login)
        await opens(login)
    assert [line["event"] for line in lines] == ["password_not_read"]
    assert login.problem == "database.password_file cannot be read"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"a\nb\n", "more than one line"),
        (b"\xff", "no UTF-8"),
        (b"x" * 70_000, "more than 65536 bytes"),
    ],
)
def test_what_is_no_password_is_told(tmp_path, content, said):
    file = tmp_path / "password"
    file.write_bytes(content)
    with pytest.raises(PasswordNotRead, match=said):
        PasswordFile(file).read(again=False)


async def test_a_command_is_executed_again_when_its_password_is_refused(
    guarded_postgres, tmp_path, monkeypatch
):
    monkeypatch.setattr("headrace.db.passwords._LEAST_AGE_SECONDS", 0.0)
    now = tmp_path / "now"
    path, calls = script(tmp_path, f"print(open({str(now)!r}).read())")
    command = PasswordCommand([sys.executable, path], timeout_seconds=20, cache_seconds=300)
    login = Login(guarded_postgres.url, Passwords(command))
    guarded_postgres.set_password("one")
    now.write_text("one")
    await opens(login)
    await opens(login)
    login.connect_blocking().close()
    assert executions(calls) == 1
    guarded_postgres.set_password("two")
    now.write_text("two")
    await opens(login)
    assert executions(calls) == 2


async def test_while_logins_are_refused_the_command_is_not_executed_for_each(
    guarded_postgres, tmp_path
):
    path, calls = script(tmp_path, "print('wrong')")
    command = PasswordCommand([sys.executable, path], timeout_seconds=20, cache_seconds=300)
    login = Login(guarded_postgres.url, Passwords(command))
    guarded_postgres.set_password("right")
    for _ in range(4):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            await opens(login)
    assert executions(calls) == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import time; time.sleep(60)", "took longer than 1 s"),
        ("print('p4ssw0rd'); raise SystemExit('token=s3cret is over')", "status 1"),
        ("pass", "is empty"),
    ],
)
def test_a_command_that_fails_is_told_without_secrets(tmp_path, body, said):
    path, _ = script(tmp_path, body)
    command = PasswordCommand([sys.executable, path], timeout_seconds=1, cache_seconds=0)
    with pytest.raises(PasswordNotRead, match=said) as refused:
        command.read(again=False)
    assert "p4ssw0rd" not in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_no_shell_reads_the_command(tmp_path):
    program = tmp_path / "print-first"
    program.write_text('#!/bin/sh\nprintf "%s" "$1"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    given = "$(id); a'b"
    command = PasswordCommand([str(program), given], timeout_seconds=20, cache_seconds=0)
    assert command.read(again=False) == given
    with pytest.raises(PasswordNotRead, match="cannot execute the command /no/such"):
        PasswordCommand(["/no/such"], timeout_seconds=1, cache_seconds=0).read(again=False)


async def test_a_pool_replaces_its_connections_after_a_rotation(guarded_postgres, tmp_path):
    guarded_postgres.set_password("old")
    file = tmp_path / "password"
    file.write_text("old")
    settings = database_settings(guarded_postgres.url, password_file=file, pool_min=2, pool_max=2)
    pool = build_pool(settings, behind_pooler=False)
    await pool.open(wait=True)
    try:
        guarded_postgres.set_password("new")
        file.write_text("new")
        guarded_postgres.cut_sessions()
        for _ in range(4):
            async with pool.connection(timeout=10) as connection:
                await connection.execute("SELECT 1")
        await until_at_rest(pool, 2)
    finally:
        await pool.close()


async def test_a_pool_keeps_its_connections_while_no_new_one_can_be_made(
    guarded_postgres, tmp_path, monkeypatch
):
    """The role has a new password that this process does not know yet, and lifetimes end."""
    guarded_postgres.set_password("old")
    file = tmp_path / "password"
    file.write_text("old")
    settings = database_settings(guarded_postgres.url, password_file=file, pool_min=3, pool_max=3)
    pool = build_pool(settings, behind_pooler=False)
    await pool.open(wait=True)
    try:
        guarded_postgres.set_password("new")
        pids = set()
        for _ in range(12):
            async with pool.connection(timeout=10) as connection:
                pids.add(connection.info.backend_pid)
                pool.wear_out(connection)
            # The first one is lost: that is how the pool learns that it gets no other.
            await eventually(lambda: pool.figures().in_use == 0 and pool.fault is not None)
        assert len(pids) <= 3
        await eventually(lambda: pool.figures().available >= 1)
        file.write_text("new")
        monkeypatch.setattr("headrace.db.pool._REPRIEVE_SECONDS", 0.0)
        await until_at_rest(pool, 3)
    finally:
        await pool.close()


def test_commands_log_in_with_the_file(guarded_postgres, tmp_path):
    guarded_postgres.set_password("good")
    file = tmp_path / "password"
    file.write_text("good")
    settings = database_settings(guarded_postgres.url, password_file=file)
    assert state(settings).problem is None
    file.write_text("bad-s3cret")
    with pytest.raises(StartupRefusal, match="password authentication failed") as refused:
        state(settings)
    assert "s3cret" not in str(refused.value)
    file.unlink()
    with pytest.raises(StartupRefusal, match="cannot read") as refused:
        state(settings)
    assert refused.value.code == "HR301"


def test_settings_take_a_command_as_json_and_refuse_two_sources(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://app@host/d")
    monkeypatch.setenv("HEADRACE_DATABASE__PASSWORD_COMMAND", json.dumps(["token", "--now"]))
    assert Settings().database.password_command == ("token", "--now")
    monkeypatch.setenv("HEADRACE_DATABASE__PASSWORD_FILE", "/run/password")
    with pytest.raises(ValueError, match="are both set; unset one"):
        Settings()
