"""``headrace explain`` and ``--version``: what an installed headrace says about itself."""

from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from headrace.cli.explain import entries
from headrace.cli.main import app
from headrace.errors import DOCUMENTATION, StartupRefusal


def said(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.output


def test_the_version_is_printed() -> None:
    assert said("--version") == f"headrace {version('headrace')}\n"


@pytest.mark.parametrize("code", entries())
def test_every_entry_is_printed_without_marks_and_with_whole_addresses(code: str) -> None:
    text = said("explain", code.lower())
    assert text.startswith(f"{code}\n\nCause. ")
    assert "\nCure. " in text
    assert "](" not in text
    assert "**" not in text
    assert text.count(".md") == text.count(f"{DOCUMENTATION}/")


def test_without_a_code_all_are_listed() -> None:
    lines = said("explain").splitlines()
    assert [line.split()[0] for line in lines] == list(entries())


def test_an_unknown_code_is_refused() -> None:
    done = CliRunner().invoke(app, ["explain", "HR999"])
    assert done.exit_code == 2
    assert "there is no HR999" in done.output


def test_a_refusal_ends_in_the_command_that_explains_it() -> None:
    refusal = StartupRefusal("HR102", where="here", what="it is so", remedy="Change it.")
    assert str(refusal) == "HR102 here: it is so. Change it. (headrace explain HR102)"
