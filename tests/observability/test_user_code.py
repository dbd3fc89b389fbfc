"""What a person sees of an error: the user's frames, and the line that is to be mended."""

import json

from headrace.observability.user_code import described, fault_place, short_traceback


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


def caught(raising) -> BaseException:
    try:
        raising()
    except BaseException as error:
        return error
    raise AssertionError("it did not raise")


def test_the_line_is_the_users_own_though_a_library_raised() -> None:
    error = caught(lambda: json.loads("{"))
    assert fault_place(error).startswith("tests/observability/test_user_code.py line ")
    lines = short_traceback(error).splitlines()
    assert lines[-1].startswith("JSONDecodeError: Expecting property name")
    assert "json/decoder.py line" in lines[-2] or "json/decoder.py line" in lines[-3]
    assert "json/__init__.py" not in short_traceback(error)


def test_a_group_names_its_leaves() -> None:
    group = ExceptionGroup("unhandled", [ExceptionGroup("inner", [ConnectionRefusedError("no")])])
    assert "  | ConnectionRefusedError: no" in short_traceback(group)


def test_what_led_to_it_stands_first() -> None:
    def raising() -> None:
        try:
            raise KeyError("name")
        except KeyError as error:
            raise ValueError("no name") from error

    lines = short_traceback(caught(raising)).splitlines()
    assert lines.index("KeyError: 'name'") < lines.index("which led to:")
    assert lines[-1] == "ValueError: no name"


def test_an_error_without_words_or_with_too_many_is_borne() -> None:
    assert described(Mute()).startswith("Mute")
    assert short_traceback(Mute()).startswith("Mute")
    assert len(short_traceback(ValueError("x" * 10_000_000))) < 3000
    assert described(ValueError("first\nsecond")) == "ValueError: first"
    assert described(ValueError()) == "ValueError"
