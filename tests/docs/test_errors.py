"""Every refusal leads to an entry of its page, and every entry to a refusal.

docs/errors.md has the refusals to start, docs/request-errors.md the refusals of requests; the head
of ``headrace.errors`` draws the classes.
"""

import ast
import importlib
import inspect
import pkgutil
import re

import headrace
from headrace import admission_errors, errors, unavailable_errors
from headrace.errors import HeadraceError, RequestError
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


def drawn_tree() -> list[tuple[str, str, str]]:
    """Class, parent and status of each line that the head of ``headrace.errors`` draws."""
    drawn: list[tuple[str, str, str]] = []
    above: list[str] = []
    for line in inspect.getdoc(errors).splitlines():  # type: ignore[union-attr]
        found = re.match(r" {4}([│├└─ ]*)([A-Z]\w+)(?: +(\d{3}))?", line)
        if found is None:
            continue
        depth = len(found[1]) // 4
        above[depth:] = [found[2]]
        parent = above[depth - 1] if depth else ""
        drawn.append((found[2], parent, found[3] or ""))
    return drawn


def test_the_drawn_tree_is_that_of_the_classes() -> None:
    there = [
        (name, kind.__mro__[1].__name__, str(getattr(kind, "status", "")))
        for module in (errors, admission_errors, unavailable_errors)
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and kind.__module__ == module.__name__
    ]
    assert sorted(drawn_tree()) == sorted(
        (name, "" if parent == "Exception" else parent, status) for name, parent, status in there
    )
    assert drawn_tree()[0][0] == HeadraceError.__name__


def request_errors() -> set[type[RequestError]]:
    """Every kind of refusal of a request, in whichever room it stands."""
    for module in pkgutil.walk_packages(headrace.__path__, "headrace."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: set[type[RequestError]] = set()
    waiting: list[type[RequestError]] = [RequestError]
    while waiting:
        kind = waiting.pop()
        found.add(kind)
        waiting.extend(kind.__subclasses__())
    return {kind for kind in found if kind.__module__.startswith("headrace.")}


def codes_without_a_class() -> set[str]:
    """Codes that the HTTP parser and the pages of unknown paths write by themselves."""
    texts = [
        (ROOT / "src" / "headrace" / "server" / name).read_text()
        for name in (
            "protocol_refusals.py",
            "error_handlers.py",
            "unserved_routes.py",
            "connections.py",
        )
    ]
    return {code for code in documented_codes() if any(f'"{code}"' in text for text in texts)}


def documented_codes() -> dict[str, set[str]]:
    """Code to the statuses that docs/request-errors.md gives it."""
    found: dict[str, set[str]] = {}
    for status, code in re.findall(
        r"^\| (\d{3}) \| `(\w+)` \|", page("request-errors.md"), flags=re.MULTILINE
    ):
        found.setdefault(code, set()).add(status)
    return found


def test_every_refusal_of_a_request_stands_in_its_page_and_no_other() -> None:
    documented = documented_codes()
    raised = {(str(kind.status), kind.code) for kind in request_errors()}
    listed = {(status, code) for code, statuses in documented.items() for status in statuses}
    assert raised - listed == set()
    assert {code for _, code in listed - raised} <= codes_without_a_class()


def test_no_two_refusals_have_one_code() -> None:
    codes = [kind.code for kind in request_errors() if "code" in vars(kind)]
    assert sorted(codes) == sorted(set(codes))
