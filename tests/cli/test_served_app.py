"""``headrace dev --app``: an app that cannot be served is refused before anything is started."""

import asyncio

import pytest
from typer.testing import CliRunner

from headrace.cli.main import app
from headrace.errors import StartupRefusal
from headrace.graphs import check
from headrace.graphs.custom_app import load_served_app
from headrace.server.gunicorn import APPLICATION, arguments
from headrace.settings import Settings


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hr_served.py").write_text(
        "from fastapi import FastAPI\napp = application = FastAPI()\ndef create_app(): return app\n"
    )
    (tmp_path / "hr_broken.py").write_text("raise RuntimeError('no key')\n")
    return tmp_path


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("hr_served:ap", "HR101 --app hr_served:ap: hr_served has no 'ap'. Write it as module:app"),
        ("hr_nothing:app", "HR101 --app hr_nothing:app: there is no module hr_nothing."),
        ("hr_broken:app", "HR105 --app hr_broken:app: importing it raised RuntimeError: no key"),
    ],
)
def test_an_app_that_is_not_there_is_refused(folder, named, said):
    with pytest.raises(StartupRefusal) as caught:
        asyncio.run(check.check(Settings(app=named)))
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("named", ["hr_served:app", "hr_served:create_app()", "hr_served"])
def test_all_forms_that_gunicorn_takes_are_taken(folder, named):
    assert load_served_app(named) is not None


def test_the_app_is_what_gunicorn_serves_and_a_worker_serves_its_own():
    assert arguments(Settings(app="main:app"))[-1] == "main:app"
    worker = Settings(app="main:app", server={"api": False})
    assert arguments(worker)[-1] == APPLICATION
    assert arguments(Settings())[-1] == APPLICATION


def test_a_graph_and_an_app_are_not_both_served(folder, monkeypatch):
    monkeypatch.delenv("HEADRACE_APP", raising=False)
    answer = CliRunner().invoke(app, ["dev", "graph.py:builder", "--app=hr_served:app"])
    assert answer.exit_code == 2
    assert "not both" in answer.output
