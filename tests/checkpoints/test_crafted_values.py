"""Values that somebody has written to the database execute nothing, and cost a bounded amount."""

import subprocess
import sys

import pytest

from headrace.checkpoints.allowed_types import AllowedTypes
from headrace.checkpoints.serializer import build_serializer, showing_values
from headrace.errors import TypeNotAllowed
from tests.support.crafted import MODULE, Canary, costly, executing


@pytest.fixture
def canary(tmp_path, monkeypatch):
    made = Canary(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield made
    sys.modules.pop(MODULE, None)


@pytest.mark.parametrize("name", executing())
def test_nothing_that_a_value_names_is_imported_or_called(canary, name):
    serializer, stored = build_serializer(), ("msgpack", executing()[name])
    with pytest.raises(TypeNotAllowed) as refused:
        serializer.loads_typed(stored)
    assert "allowed_msgpack_modules" in str(refused.value)
    with showing_values():
        serializer.loads_typed(stored)
    assert canary.sings() == []


@pytest.mark.parametrize("name", executing())
def test_the_canary_sings_where_every_type_is_allowed(canary, name):
    if name in ("method", "a function of a safe module", "an attribute of a safe type", "a shell"):
        pytest.skip("no list allows it, or it leaves no file")
    build_serializer(AllowedTypes(True)).loads_typed(("msgpack", executing()[name]))
    assert canary.sings()


_READ = """
import resource
import sys
from time import process_time
from headrace.checkpoints.serializer import build_serializer, showing_values
from tests.support.crafted import costly
import structlog
# The log has its own stream here: it may have tracebacks.
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
serializer = build_serializer()
began = process_time()
for name, data in costly().items():
    try:
        serializer.loads_typed(("msgpack", data))
    except Exception as error:
        print(name, type(error).__name__, flush=True)
    else:
        print(name, "read", flush=True)
print("seconds", process_time() - began)
print("kilobytes", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_costly_values_end_no_process_and_take_little():
    """LangGraph's own hook overflows the stack: the process ends by a signal."""
    done = subprocess.run(
        [sys.executable, "-c", _READ], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr[-2000:])
    said = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())
    assert float(said.pop("seconds")) < 3
    assert int(said.pop("kilobytes")) < 1_000_000
    assert set(said) == set(costly())
    assert set(said.values()) <= {"Unreadable", "MsgpackDecodeError", "ValueError"}, said


@pytest.mark.parametrize("lc", [1, 2])
def test_constructors_in_json_are_not_called(canary, lc):
    named = b'{"lc": %d, "type": "constructor", "id": ["%s", "Kind"], "kwargs": {"x": 1}}'
    serializer = build_serializer()
    with pytest.raises(TypeNotAllowed) as refused:
        serializer.loads_typed(("json", named % (lc, MODULE.encode())))
    assert f'["{MODULE}", "Kind"]' in str(refused.value)
    assert "allowed_json_modules" in str(refused.value)
    assert canary.sings() == []


def test_secrets_in_json_are_data(monkeypatch):
    monkeypatch.setenv("CRAFTED_SECRET", "from the environment")
    read = build_serializer().loads_typed(
        ("json", b'{"lc": 1, "type": "secret", "id": ["CRAFTED_SECRET"]}')
    )
    assert read == {"lc": 1, "type": "secret", "id": ["CRAFTED_SECRET"]}


def test_messages_in_old_json_are_made_again():
    stored = (
        b'{"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages",'
        b' "HumanMessage"], "kwargs": {"content": "hi", "type": "human"}}'
    )
    assert build_serializer().loads_typed(("json", stored)).text == "hi"
