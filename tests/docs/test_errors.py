"""Every refusal leads to an entry of docs/errors.md, and every entry to a refusal."""

import ast
import re

from tests.support.sources import ROOT, calls, page

#: Printed by the Makefile, before any Python of ours runs.
MAKEFILES_OWN = {"HR202"}


def codes_raised() -> dict[str, set[str]]:
    """Code to the modules that raise it."""
    raised: dict[str, set[str]] = {}
    for module, call in calls():
        if isinstance(call.func, ast.Name) and call.func.id == "StartupRefusal":
            code = call.args[0]
            assert isinstance(code, ast.Constant), f"{module}:{call.lineno}: write the code here"
            raised.setdefault(str(code.value), set()).add(module)
    return raised


def codes_printed_by_make() -> set[str]:
    makefile = ROOT / "Makefile"
    text = makefile.read_text(encoding="utf-8") if makefile.exists() else ""
    return MAKEFILES_OWN | set(re.findall(r"HR\d{3}", text))


def entries() -> dict[str, str]:
    """Code to the text below its heading."""
    parts = re.split(r"^## (HR\d{3})$", page("errors.md"), flags=re.MULTILINE)[1:]
    assert len(parts[::2]) == len(set(parts[::2])), "a code has two entries"
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_code_has_an_entry_and_every_entry_a_code() -> None:
    assert set(entries()) == set(codes_raised()) | codes_printed_by_make()


def test_codes_have_one_form() -> None:
    assert all(re.fullmatch(r"HR\d{3}", code) for code in codes_raised())


def test_entries_tell_cause_and_cure_in_few_words() -> None:
    for code, text in entries().items():
        lines = [line for line in text.splitlines() if line]
        assert text.lstrip().startswith("**Cause.** "), code
        assert text.count("**Cure.** ") == 1, code
        assert 2 <= len(lines) <= 5, code


def test_entries_stand_in_order() -> None:
    assert list(entries()) == sorted(entries())


def test_every_link_to_an_entry_arrives() -> None:
    known = {f"#{code.lower()}" for code in entries()}
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for anchor in re.findall(r"errors\.md(#\w+)", path.read_text(encoding="utf-8")):
            assert anchor in known, f"{path.name} links to {anchor}"
