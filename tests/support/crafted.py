"""Stored values that call what their writer chose, or cost more than their bytes."""

import sys
from pathlib import Path
from typing import Any

import ormsgpack

#: The module that the values name. Importing it, or calling something in it, leaves a file.
MODULE = "crafted_canary"

_SOURCE = """
from pathlib import Path
from pydantic import BaseModel
from pydantic.v1 import BaseModel as OldModel

PLACE = Path({place!r})
(PLACE / "imported").touch()

def call(*args, **kwargs):
    (PLACE / "called").touch()

class Kind:
    def __init__(self, *args, **kwargs):
        (PLACE / "made").touch()

    @classmethod
    def method(cls, *args):
        (PLACE / "method").touch()

    fromisoformat = method

class Model(BaseModel):
    x: int = 0
    def __init__(self, **kwargs):
        (PLACE / "model").touch()
        super().__init__(**kwargs)

class Old(OldModel):
    x: int = 0
    def __init__(self, **kwargs):
        (PLACE / "old").touch()
        super().__init__(**kwargs)
"""


class Canary:
    """A module in a folder, which is on the path."""

    def __init__(self, folder: Path) -> None:
        self._marks = folder / "marks"
        self._marks.mkdir()
        (folder / f"{MODULE}.py").write_text(_SOURCE.format(place=str(self._marks)))

    def sings(self) -> list[str]:
        """What was imported or called."""
        marks = sorted(path.name for path in self._marks.iterdir())
        return marks + [MODULE] * (MODULE in sys.modules)


def ext(code: int, *parts: Any) -> ormsgpack.Ext:
    return ormsgpack.Ext(code, _packed(list(parts)))


def _packed(value: Any) -> bytes:
    return ormsgpack.packb(value, option=ormsgpack.OPT_NON_STR_KEYS)


def _raw(code: int, data: bytes) -> bytes:
    return b"\xc9" + len(data).to_bytes(4, "big") + bytes([code]) + data


def executing() -> dict[str, bytes]:
    """Each names the canary: by every form that LangGraph knows, alone, and inside of others."""
    call = ext(0, MODULE, "call", "x")
    found = {
        "single argument": call,
        "arguments": ext(1, MODULE, "call", ["x"]),
        "fields": ext(2, MODULE, "Kind", {"x": 1}),
        "method": ext(3, MODULE, "Kind", "x", "method"),
        "a known method": ext(3, MODULE, "Kind", "x", "fromisoformat"),
        "old model": ext(4, MODULE, "Old", {"x": 1}),
        "model": ext(5, MODULE, "Model", {"x": 1}, "model_validate_json"),
        "model's method": ext(5, MODULE, "Model", {"x": 1}, "__init__"),
        "delta snapshot": ormsgpack.Ext(7, _packed([call])),
        "in a set": ext(0, "builtins", "set", [call]),
        "in a message": ext(
            5,
            "langchain_core.messages.human",
            "HumanMessage",
            {"content": "x", "additional_kwargs": {"x": call}},
            "model_validate_json",
        ),
        "a function of a safe module": ext(0, "re", "template", "x"),
        "the evaluator": ext(0, "builtins", "eval", f"__import__({MODULE!r})"),
        "a shell": ext(1, "os", "system", [f"{sys.executable} -c 'import {MODULE}'"]),
        "an attribute of a safe type": ext(0, "uuid", "os.system", "true"),
    }
    return {name: _packed({"value": value}) for name, value in found.items()}


def costly() -> dict[str, bytes]:
    """Small, but deep, or with a length that is not there."""
    return {
        "deep lists": b"\x91" * 5_000 + b"\xc0",
        "deep objects": b"\x81\xa1x" * 5_000 + b"\xc0",
        "deep types": _inside(3_000, 0),
        "deep lists in types": _inside(40, 1_000),
        "deep lists in some types": _inside(4, 1_000),
        "a long type": b"\xc9\xff\xff\xff\xff\x00x",
        "a long list": b"\xdd\xff\xff\xff\xff",
        "a long object": b"\xdf\xff\xff\xff\xff",
        "a long text": b"\xdb\xff\xff\xff\xff",
        "a large array": _packed(ext(6, "<f8", [2**40], "C", b"12345678")),
        "an array of objects": _packed(ext(6, "|O", [1], "C", b"12345678")),
        "an array of fields": _packed(ext(6, "(4294967295,)f8", [1], "C", b"12345678")),
        "an array of no numbers": _packed(ext(6, "<f8", [2**40, 0], "C", b"")),
        "a pattern": _packed(ext(1, "re", "compile", ["[\u0100-\uffff]" * 20_000, 2])),
        "patterns": _packed(
            [ext(1, "re", "compile", [f"[\u0100-\uffff]{n}", 2]) for n in range(999)]
        ),
        "a call in a chunk": _packed(
            ext(
                5,
                "langchain_core.messages.ai",
                "AIMessageChunk",
                {
                    "content": "",
                    "tool_call_chunks": [
                        {"name": "a", "args": '{"a": ' + '"b, ' * 50_000, "id": "1", "index": 0}
                    ],
                },
                "model_validate_json",
            )
        ),
        "a copied text": _copied(90, 1 << 20),
        "a type as a key": b"\x81" + _packed(ext(0, "uuid", "UUID", "x")) + b"\x01",
        "no type": _raw(0, b"\xc0"),
        "an unknown type": _raw(99, b"\xc0"),
        "a type of numbers": _raw(0, _packed([1, 2, 3])),
    }


def _inside(types: int, lists: int) -> bytes:
    """Types in each other, with lists around each."""
    data = b"\xc0"
    for _ in range(types):
        inner = b"\xa8builtins\xa3set" + b"\x91" * (1 + lists) + data
        data = _raw(0, b"\x93" + inner)
    return data


def _copied(types: int, size: int) -> bytes:
    """A text in many types: each level is a copy of it."""
    data = b"\xdb" + size.to_bytes(4, "big") + b"x" * size
    for _ in range(types):
        data = _raw(0, b"\x93\xa8builtins\xa3set\x91" + data)
    return data
