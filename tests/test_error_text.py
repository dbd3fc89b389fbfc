"""Texts of exceptions: total, bounded and storable, whatever the exception does."""

import pytest

from headrace.error_text import clipped, error_message, error_name, error_repr, value_text
from headrace.user_exit import UserExit


class Raises(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Mute(Raises):
    def __repr__(self):
        raise SystemExit(3)


class NoText(Exception):
    def __str__(self):
        return 7


class Odd(str):
    def __len__(self):
        raise RuntimeError

    def __getitem__(self, key):
        raise RuntimeError

    def encode(self, *args):
        raise RuntimeError


class SaysOdd(Exception):
    def __str__(self):
        return Odd("odd words")


class Meta(type):
    def __getattribute__(cls, name):
        raise RuntimeError


class Nameless(Exception, metaclass=Meta):
    pass


@pytest.mark.parametrize(
    ("error", "name", "message"),
    [
        (ValueError("plain"), "ValueError", "plain"),
        (Raises("a"), "Raises", "Raises('a')"),
        (Mute(), "Mute", "<Mute>"),
        (NoText("b"), "NoText", "NoText('b')"),
        (SaysOdd(), "SaysOdd", "odd words"),
        (Nameless("c"), "Nameless", "c"),
        (ValueError("nul \0 and \ud800"), "ValueError", "nul \ufffd and \ufffd"),
        (UserExit(SystemExit("bye")), "SystemExit", "bye"),
    ],
)
def test_an_exception_has_a_name_and_words(error, name, message):
    assert (error_name(error), error_message(error)) == (name, message)


@pytest.mark.parametrize("letter", ["x", "\N{SNOWMAN}", "\ud800", "\0"])
def test_twenty_megabytes_are_cut(letter):
    text = error_message(ValueError(letter * 20_000_000), max_bytes=1000)
    assert len(text.encode()) <= 1000
    assert "cut from 20000000 characters" in text
    assert len(error_name(type("N" * 100_000, (Exception,), {})())) <= 200


def test_a_cut_text_keeps_its_beginning_and_its_end():
    text = clipped("begin " + "x" * 10_000 + " end", 500)
    assert text.startswith("begin x")
    assert text.endswith("x end")


def test_a_group_names_its_leaves():
    inner = ExceptionGroup("unhandled errors in a TaskGroup", [ConnectionRefusedError(111, "no")])
    outer = ExceptionGroup("unhandled errors in a TaskGroup", [inner, Mute(), KeyError("k")])
    assert (
        error_message(outer)
        == "ConnectionRefusedError: [Errno 111] no; Mute: <Mute>; KeyError: 'k'"
    )
    own = BaseExceptionGroup("payment", [UserExit(SystemExit(3))])
    assert error_message(own) == "payment: SystemExit: 3"


def test_a_group_of_thousands_in_depth_ends():
    group: Exception = ValueError("x")
    for _ in range(100):
        # As a tree it has more leaves than there is time.
        group = ExceptionGroup("deep", [group, group])
    assert error_message(group).endswith("and more")


def test_values_have_texts_too():
    assert value_text(Mute()) == "<Mute>"
    assert error_repr(Mute()) == "<Mute>"
    assert value_text(5) == "5"
