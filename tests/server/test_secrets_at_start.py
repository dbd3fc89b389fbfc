"""What a process prints when it does not start: no secret of the server stands in it."""

import json
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import headrace
from headrace.errors import StartupRefusal
from headrace.observability.masking import mask_text
from headrace.server.own_secrets import mask_own, masked_refusal
from headrace.settings import Settings, environment
from tests.support.processes import free_port

#: Without a form that would give it away, and with a capital: it is no word.
PLANTED = "Planted words of a model's key"
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADAN\n-----END PRIVATE KEY-----"
GOLDEN = Path(__file__).parents[1] / "graphs" / "golden" / "refusals.txt"


def run(folder: Path, *command: str, **variables: str) -> str:
    """What a process that fails has printed."""
    kept = {name: value for name, value in environment().items() if "HEADRACE" not in name}
    kept.pop("DATABASE_URL", None)
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**kept, **variables},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode, done.stdout
    return done.stdout + done.stderr


def serve(folder: Path, database_url: str, **variables: str) -> str:
    return run(
        folder,
        "-m",
        "headrace",
        "serve",
        DATABASE_URL=database_url,
        HEADRACE_PORT=str(free_port()),
        HEADRACE_PROCESSES="1",
        OPENAI_API_KEY=PLANTED,
        **variables,
    )


def test_a_graph_that_quotes_a_key_when_it_is_imported(database_url, tmp_path):
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": {"a": "./graph.py:graph"}}))
    (tmp_path / "graph.py").write_text(
        "import os\nraise ValueError('no such model key: ' + os.environ['OPENAI_API_KEY'])\n"
    )
    said = serve(tmp_path, database_url)
    assert "HR105" in said
    assert "***" in said
    assert PLANTED not in said


def test_an_error_that_nobody_foresaw(database_url, tmp_path):
    (tmp_path / PLANTED).touch()
    said = serve(
        tmp_path, database_url, HEADRACE_RUNTIME_DIR=str(tmp_path.absolute() / PLANTED / "runtime")
    )
    assert "Traceback" in said
    assert "***/runtime" in said
    assert PLANTED not in said


def test_the_first_check_of_headrace_dev(database_url, tmp_path):
    (tmp_path / "graph.py").write_text(
        "import os\nraise ValueError('no such model key: ' + os.environ['OPENAI_API_KEY'])\n"
    )
    said = run(
        tmp_path,
        *("-m", "headrace", "dev", "graph.py:graph"),
        DATABASE_URL=database_url,
        HEADRACE_PORT=str(free_port()),
        OPENAI_API_KEY=PLANTED,
    )
    assert "HR105" in said
    assert PLANTED not in said


@pytest.mark.parametrize("thread", [False, True])
def test_tracebacks_of_all_threads(tmp_path, thread):
    fail = "def fail():\n    raise RuntimeError(os.environ['OPENAI_API_KEY'])\n"
    end = "t = threading.Thread(target=fail); t.start(); t.join(); sys.exit(1)"
    code = (
        "import os, sys, threading\n"
        "from headrace.server.own_secrets import mask_tracebacks\n"
        f"mask_tracebacks()\n{fail}{end if thread else 'fail()'}"
    )
    said = run(tmp_path, "-c", code, OPENAI_API_KEY=PLANTED)
    assert "RuntimeError: ***" in said
    assert PLANTED not in said


def test_settings_that_are_wrong(tmp_path):
    secret = "whsec_tooShortButSecret"
    said = run(
        tmp_path,
        *("-c", "from headrace.settings import Settings; Settings()"),
        HEADRACE_API_KEYS="kurz, Other-key-0123456789",
        HEADRACE_WEBHOOKS__SIGNING_SECRETS=secret,
    )
    assert "ValidationError" in said
    assert "Other-key" not in said
    assert secret not in said
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"port": PLANTED, "database": {"pool_max": PLANTED}})
    assert PLANTED not in str(caught.value)


async def test_a_users_app_gets_refusals_and_causes_without_secrets(monkeypatch, database_url):
    monkeypatch.setenv("OPENAI_API_KEY", PLANTED)
    monkeypatch.setenv("DATABASE_URL", database_url)

    def graph() -> Any:
        raise ValueError(f"no such model key: {PLANTED}")

    for opened in (
        headrace.lifespan(graphs={"a": graph}).__aenter__(),
        headrace.lifespan(graphs={"a": graph})(None).__aenter__(),
    ):
        with pytest.raises(StartupRefusal) as caught:
            await opened
        told = "".join(traceback.format_exception(caught.value))
        assert "no such model key: ***" in told
        assert PLANTED not in told


@pytest.mark.parametrize(
    ("variables", "secrets"),
    [
        ({"PGPASSWORD": "correcthorse"}, ["correcthorse"]),
        ({"OPENAIKEY": "Sk0123456789"}, ["Sk0123456789"]),
        (
            {"LANGGRAPH_AES_KEY": "qwhzkvbnmtrlpsdfgjcyxqwhzkvbnmtr"},
            ["qwhzkvbnmtrlpsdfgjcyxqwhzkvbnmtr"],
        ),
        ({"AWS_SECRET_ACCESS_KEY": "/K7MDENG/bPxRfiCY"}, ["/K7MDENG/bPxRfiCY"]),
        ({"REDIS_URL": "redis://:p%40ss-word@cache:6379/0"}, ["p%40ss-word", "p@ss-word"]),
        (
            {"OTEL_EXPORTER_OTLP_HEADERS": "x-honeycomb-team=hcaik01abc, x-other=Value0123"},
            ["hcaik01abc", "Value0123"],
        ),
        ({"SIGNING_KEY": PEM}, [PEM, repr(PEM)[1:-1]]),
        ({"HEADRACE_API_KEYS": "first-key-0001, second-key-0002"}, ["second-key-0002"]),
        ({"headrace_api_keys": "lower-case-0001"}, ["lower-case-0001"]),
        ({"HEADRACE_WEBHOOKS__SIGNING_SECRETS": "whsec_cGxhbnRl"}, ["cGxhbnRl"]),
        ({"HEADRACE_WEBHOOKS": '{"signing_secrets": "whsec_aXNvbGF0"}'}, ["aXNvbGF0"]),
        ({"DATABASE_URL": "postgresql://ada:pass word1@[db/app"}, ["pass word1"]),
        ({"POSTGRES_URI": "postgresql://a:b@db/x?sslpassword=tls-word-1"}, ["tls-word-1"]),
    ],
)
def test_secrets_of_the_environment_are_known_without_settings(monkeypatch, variables, secrets):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    mask_own()
    for secret in secrets:
        assert secret not in mask_text(f"it said {secret} aloud")


def test_words_numbers_and_paths_in_variables_with_such_names_are_no_secrets(monkeypatch):
    for name, value in {
        "STORAGE_TOKEN": "filesystem",
        "MAX_TOKEN": "1000000000",
        "TLS_KEY": "/etc/tls/tls.key",
        "HEADRACE_AUTH__JWT_PUBLIC_KEY": "-----BEGIN PUBLIC KEY-----\\nMFkw\\n-----END",
        "DATABASE_URL": "postgresql://ada:Planted-0001@first:5432,second:5432/app",
    }.items():
        monkeypatch.setenv(name, value)
    mask_own()
    told = (
        "filesystem 1000000000 /etc/tls/tls.key -----BEGIN PUBLIC KEY-----\\nMFkw\\n-----END"
        " first:5432,second:5432/app"
    )
    assert mask_text(told) == told


def test_a_hundred_passwords_do_not_push_out_the_keys_of_the_settings(monkeypatch):
    monkeypatch.setenv("HEADRACE_API_KEYS", "Pushed-out-key-0001")
    mask_own()
    for number in range(120):
        monkeypatch.setenv(f"KEY_{number}_SECRET", f"Another-secret-{number:04}")
    mask_own()
    said = mask_text("Pushed-out-key-0001 Another-secret-0000 Another-secret-0119")
    assert said == "*** *** ***"


def test_refusals_without_secrets_stay_as_they_are():
    for line in GOLDEN.read_text(encoding="utf-8").splitlines():
        assert mask_text(line) == line
    remedy = "Set it to postgresql://user:password@host/database."
    refusal = StartupRefusal("HR303", where="DATABASE_URL", what="no", remedy=remedy)
    assert str(masked_refusal(refusal)) == str(refusal)
