"""Bodies at the door."""

import json

import pytest

from headrace.edge.requests import MAX_DEPTH, BodyBounds, JSONRequest
from headrace.errors import InvalidRequest, MalformedJSON, PayloadTooLarge


def request(*chunks: bytes, headers: dict[str, str] | None = None, limit: int = 100) -> JSONRequest:
    messages = [
        {"type": "http.request", "body": chunk, "more_body": index < len(chunks) - 1}
        for index, chunk in enumerate(chunks)
    ]

    async def receive():
        return messages.pop(0)

    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    made = JSONRequest({"type": "http", "headers": raw, "method": "POST"}, receive)
    made.max_body_bytes = limit
    return made


async def test_a_good_body_is_itself():
    assert await request(b'{"a": ', b"1}").json() == {"a": 1}


async def test_broken_json_says_where():
    with pytest.raises(MalformedJSON, match="line 1 column"):
        await request(b"{bad json").json()


@pytest.mark.parametrize("number", [b"NaN", b"Infinity"])
async def test_numbers_that_json_does_not_have(number):
    with pytest.raises(MalformedJSON):
        await request(b'{"a": %b}' % number).json()


@pytest.mark.parametrize("body", [rb'{"a": ["x\u0000y"]}', rb'{"a\u0000": 1}'])
async def test_nul_is_refused_wherever_it_stands(body):
    with pytest.raises(InvalidRequest, match="NUL"):
        await request(body).json()


async def test_an_escaped_backslash_before_u0000_is_no_nul():
    assert await request(rb'["\\u0000"]').json() == [r"\u0000"]


async def test_a_lone_surrogate_is_no_json():
    with pytest.raises(MalformedJSON):
        await request(rb'"\ud800"').json()


@pytest.mark.parametrize(
    "text",
    ["1180591620717411303424", "-9223372036854775809", "18446744073709551616", "1e20", "1.5e300"],
)
async def test_numbers_are_what_they_say(text):
    body = b'{"a": [1, {"n": %b}]}' % text.encode()
    number = (await request(body).json())["a"][1]["n"]
    expected = json.loads(text)
    assert (type(number), number) == (type(expected), expected)


@pytest.mark.parametrize("text", [b"1e400", b"1" * 400])
async def test_numbers_that_no_double_holds_are_refused(text):
    with pytest.raises(MalformedJSON):
        await request(b'{"a": %b}' % text, limit=1000).json()


async def test_depth_is_bounded():
    deep = b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)
    with pytest.raises(InvalidRequest, match="nested"):
        await request(deep, limit=10_000).json()


@pytest.mark.parametrize("levels", [2_000, 50_000, 400_000])
@pytest.mark.parametrize(("open_", "close"), [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("is_closed", [True, False])
async def test_any_depth_is_refused_and_ends_no_thread(levels, open_, close, is_closed):
    """Up to megabytes of brackets: no recursion, neither on the loop nor beside it."""
    deep = open_ * levels + b"1" + close * levels * is_closed
    with pytest.raises((InvalidRequest, MalformedJSON)):
        await request(deep, limit=10_000_000).json()
    assert await request(b"[1]").json() == [1]


@pytest.mark.parametrize(
    "body", [b"[1,1,1,1", b'{"a":1,"b":1,"c":1,"d":1', b"[[],[[]]", b'["",[1,2],"']
)
async def test_what_holds_too_many_values_is_not_parsed(body):
    """Not even to find that it is no JSON: millions of values hold up the whole process."""
    made = request(body)
    made.bounds = BodyBounds(values=3)
    with pytest.raises(InvalidRequest, match="more than 3 values"):
        await made.json()


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        (["a", [], {}], True),
        (["a", [], {}, 1, 2.5, None, True], True),
        (["a", [], {}, ""], False),
        ({"messages": [["u", "hi"]] * 4}, False),
        ([[["a"], ["b"], ["c"]]] * 3, True),
    ],
)
async def test_a_list_has_so_many_texts_lists_and_objects(value, fits):
    """Each may become a message; numbers may not, so a vector may be long."""
    made = request(json.dumps(value).encode())
    made.bounds = BodyBounds(items=3)
    if fits:
        assert await made.json() == value
    else:
        with pytest.raises(InvalidRequest, match="A list of the request body holds more than 3"):
            await made.json()


async def test_commas_and_brackets_of_a_text_are_no_values():
    texts = ['[,[,",[,', ",,,,,,,,"]
    made = request(json.dumps(texts).encode())
    made.bounds = BodyBounds(values=3)
    assert await made.json() == texts


async def test_an_announced_size_is_refused_before_it_is_read():
    with pytest.raises(PayloadTooLarge):
        await request(headers={"content-length": "101"}).json()


async def test_a_chunked_body_is_counted():
    with pytest.raises(PayloadTooLarge):
        await request(b"x" * 60, b"x" * 60).json()
