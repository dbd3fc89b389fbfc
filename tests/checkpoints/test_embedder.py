"""Calls of the embedding model: shared, bounded, repeated, and refused alone."""

import asyncio
import threading

import pytest
from langchain_core.embeddings import Embeddings
from langgraph.store.base import ensure_embeddings

from headrace.checkpoints.embedder import Embedder
from headrace.errors import EmbeddingRefused
from headrace.index_settings import IndexSettings
from headrace.shares import Share
from headrace.unavailable_errors import EmbeddingFailed, EmbeddingsFull
from tests.checkpoints.indexed import INDEX, Figures
from tests.support.words import DIMS, aembed, embed, vector


class Refusal(Exception):
    """What a provider's client raises when the provider says no."""

    def __init__(self, status_code: int) -> None:
        super().__init__("no")
        self.status_code = status_code


@pytest.fixture
async def made():
    """Makes embedders that are closed with the test."""
    opened: list[Embedder] = []

    def make(
        model, figures: Figures | None = None, share: float | None = None, **settings
    ) -> Embedder:
        embedder = Embedder(
            ensure_embeddings(model),
            INDEX,
            IndexSettings(**settings),
            (figures or Figures()).metrics,
            None if share is None else Share(share),
        )
        opened.append(embedder)
        return embedder

    yield make
    for embedder in opened:
        await embedder.close()


def numbers(text: str) -> list[float]:
    return [float(one) for one in text.strip("[]").split(",")]


@pytest.mark.parametrize("model", [embed, aembed])
async def test_a_text_has_its_vector(made, model):
    figures = Figures()
    embedder = made(model, figures)
    found = await embedder.documents(["tea", "river bank"])
    assert [numbers(one) for one in found] == [
        pytest.approx(vector("tea")),
        pytest.approx(vector("river bank")),
    ]
    assert numbers(await embedder.query("tea")) == pytest.approx(vector("tea"))
    assert figures.value("headrace_embedded_texts_total", kind="item") == 2
    assert figures.value("headrace_embedded_texts_total", kind="query") == 1
    assert figures.value("headrace_embedding_seconds_count") == 2


async def test_a_models_own_way_with_queries_is_used(made):
    class Model(Embeddings):
        def embed_documents(self, texts):
            assert threading.current_thread() is not threading.main_thread()
            return embed(texts)

        def embed_query(self, text):
            return vector(f"query {text}")

    embedder = made(Model())
    assert numbers(await embedder.query("tea")) == pytest.approx(vector("query tea"))
    (found,) = await embedder.documents(["tea"])
    assert numbers(found) == pytest.approx(vector("tea"))


async def test_numbers_of_other_libraries_are_taken(made):
    class Array(list):
        """An object with a length and an order, as a vector of numpy is."""

    embedder = made(lambda texts: [Array(vector(text)) for text in texts])
    (found,) = await embedder.documents(["tea"])
    assert numbers(found) == pytest.approx(vector("tea"))


async def test_puts_that_wait_share_calls(made):
    calls: list[int] = []
    go_on = asyncio.Event()

    async def model(texts):
        calls.append(len(texts))
        await go_on.wait()
        return await aembed(texts)

    embedder = made(model, calls=1, batch_texts=8)
    puts = [asyncio.ensure_future(embedder.documents([f"tea {n}"])) for n in range(20)]
    while not calls:
        await asyncio.sleep(0)
    go_on.set()
    found = await asyncio.gather(*puts)
    assert [numbers(one) for (one,) in found] == [
        pytest.approx(vector(f"tea {n}")) for n in range(20)
    ]
    assert sum(calls) == 20
    assert max(calls) <= 8
    assert len(calls) <= 4


async def test_a_large_item_is_asked_about_in_parts(made):
    sizes: list[int] = []

    async def model(texts):
        sizes.append(len(texts))
        return await aembed(texts)

    embedder = made(model, batch_texts=10)
    texts = [f"tea {n}" for n in range(25)]
    found = await embedder.documents(texts)
    assert [numbers(one) for one in found] == [pytest.approx(vector(text)) for text in texts]
    assert sorted(sizes) == [5, 10, 10]


async def test_a_failed_call_is_repeated(made):
    figures, tries = Figures(), 0

    async def model(texts):
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ConnectionError("away")
        return await aembed(texts)

    embedder = made(model, figures)
    assert len(await embedder.documents(["tea"])) == 1
    assert figures.value("headrace_embedding_failures_total", reason="error") == 1


async def test_a_model_that_stays_away_is_an_error_for_its_callers(made):
    async def model(texts):
        raise ConnectionError("away")

    embedder = made(model, attempts=2)
    with pytest.raises(EmbeddingFailed):
        await embedder.documents(["tea"])
    with pytest.raises(EmbeddingFailed):
        await embedder.query("tea")


async def test_a_refused_text_fails_alone(made):
    async def model(texts):
        if "bad" in texts:
            raise Refusal(400)
        return await aembed(texts)

    embedder = made(model, calls=1)
    found = await asyncio.gather(
        *[embedder.documents([text]) for text in ("first", "tea", "bad", "river")],
        return_exceptions=True,
    )
    assert [type(one) for one in found] == [list, list, EmbeddingRefused, list]
    with pytest.raises(EmbeddingRefused):
        await embedder.query("bad")


async def test_a_wrong_key_is_not_tried_again(made):
    tries = 0

    async def model(texts):
        nonlocal tries
        tries += 1
        raise Refusal(401)

    embedder = made(model, attempts=5)
    with pytest.raises(EmbeddingFailed):
        await embedder.documents(["tea"])
    assert tries == 1


@pytest.mark.parametrize(
    "answer",
    [
        [],
        [[0.0] * (DIMS + 1)],
        [[float("nan")] * DIMS],
        [["x"] * DIMS],
        [[None] * DIMS],
        [[1e39] * DIMS],
        [[[1.0]] * DIMS],
        None,
        [3],
    ],
    ids=repr,
)
async def test_what_is_no_vector_is_not_stored(made, answer):
    figures = Figures()
    embedder = made(lambda texts: answer, figures)
    with pytest.raises(EmbeddingFailed):
        await embedder.documents(["tea"])
    assert figures.value("headrace_embedding_failures_total", reason="unfit") == 1


async def test_a_slow_call_is_given_up(made):
    figures = Figures()

    async def model(texts):
        await asyncio.sleep(60)

    embedder = made(model, figures, call_seconds=0.05, attempts=1)
    with pytest.raises(EmbeddingFailed):
        await embedder.documents(["tea"])
    assert figures.value("headrace_embedding_failures_total", reason="timeout") == 1


async def test_a_function_that_blocks_keeps_its_place_until_it_ends(made):
    go_on, entered = threading.Event(), []

    def model(texts):
        entered.append(len(texts))
        go_on.wait(10)
        return embed(texts)

    embedder = made(model, calls=1, call_seconds=0.05, attempts=1, wait_seconds=0.3)
    for _ in range(3):
        with pytest.raises(EmbeddingFailed):
            await embedder.documents(["tea"])
    assert entered == [1]
    go_on.set()


async def test_waiting_texts_are_bounded(made):
    go_on = asyncio.Event()

    async def model(texts):
        await go_on.wait()
        return await aembed(texts)

    embedder = made(model, calls=1, batch_texts=1, waiting_texts=2)
    puts = []
    for number in range(3):
        puts.append(asyncio.ensure_future(embedder.documents([str(number)])))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    with pytest.raises(EmbeddingsFull):
        await embedder.documents(["one more"])
    go_on.set()
    await asyncio.gather(*puts)


async def test_a_caller_that_leaves_costs_no_call(made):
    asked: list[str] = []
    go_on = asyncio.Event()

    async def model(texts):
        asked.extend(texts)
        await go_on.wait()
        return await aembed(texts)

    embedder = made(model, calls=1, batch_texts=1)
    first = asyncio.ensure_future(embedder.documents(["first"]))
    while not asked:
        await asyncio.sleep(0)
    left = asyncio.ensure_future(embedder.documents(["left"]))
    last = asyncio.ensure_future(embedder.documents(["last"]))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(first, last)
    assert asked == ["first", "last"]


class HeldModel:
    """A model that answers once it may; it notes the texts of each call."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.calls: list[list[str]] = []

    async def __call__(self, texts):
        self.calls.append(list(texts))
        await self.go_on.wait()
        return await aembed(texts)


async def known(embedder: Embedder, model: HeldModel, *scopes: str) -> None:
    """Let the embedder know of several scopes."""
    model.go_on.set()
    for scope in ("ada", *scopes):
        await embedder.documents(["known"], scope)
    model.go_on.clear()
    model.calls.clear()


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_no_scope_waits_behind_all_texts_of_another(made):
    model = HeldModel()
    embedder = made(model, calls=1, batch_texts=4)
    many = [asyncio.ensure_future(embedder.documents([f"a {n}"], "ada")) for n in range(40)]
    await turns()
    few = [asyncio.ensure_future(embedder.documents([f"b {n}"], "bob")) for n in range(2)]
    await turns()
    model.go_on.set()
    await asyncio.gather(*many, *few)
    # The first call was under way when bob came; the next one has texts of both.
    told = [sorted({text[0] for text in call}) for call in model.calls]
    assert told[:2] == [["a"], ["a", "b"]]
    assert sum(text[0] == "b" for text in model.calls[1]) == 2


async def test_a_scope_leaves_a_call_to_others(made):
    model = HeldModel()
    embedder = made(model, share=0.75, calls=4, batch_texts=1)
    await known(embedder, model, "bob")
    puts = [asyncio.ensure_future(embedder.documents([f"a {n}"], "ada")) for n in range(10)]
    searches = [asyncio.ensure_future(embedder.query(f"a? {n}", "ada")) for n in range(10)]
    await turns()
    assert len(model.calls) == 3
    other = asyncio.ensure_future(embedder.documents(["b"], "bob"))
    await turns()
    assert model.calls[-1] == ["b"]
    model.go_on.set()
    await asyncio.gather(*puts, *searches, other)


async def test_a_search_of_one_scope_does_not_wait_behind_all_of_another(made):
    model = HeldModel()
    embedder = made(model, share=0.5, calls=2)
    await known(embedder, model, "bob")
    searches = [asyncio.ensure_future(embedder.query(f"a? {n}", "ada")) for n in range(10)]
    await turns()
    other = asyncio.ensure_future(embedder.query("b?", "bob"))
    await turns()
    assert model.calls == [["a? 0"], ["b?"]]
    model.go_on.set()
    await asyncio.gather(*searches, other)


async def test_a_scope_leaves_places_for_the_texts_of_others(made):
    model = HeldModel()
    embedder = made(model, share=0.75, calls=1, batch_texts=1, waiting_texts=8)
    await known(embedder, model, "bob")
    # One text is asked about, and 6 of 8 places are taken.
    puts = []
    for number in range(7):
        puts.append(asyncio.ensure_future(embedder.documents([f"a {number}"], "ada")))
        await turns()
    with pytest.raises(EmbeddingsFull):
        await embedder.documents(["one more"], "ada")
    other = asyncio.ensure_future(embedder.documents(["b", "c"], "bob"))
    await turns()
    assert not other.done()
    model.go_on.set()
    await asyncio.gather(*puts, other)


async def test_many_items_of_several_scopes_all_have_their_vectors(made):
    embedder = made(aembed, share=0.6, calls=3, batch_texts=5)
    texts = {
        (scope, n): [f"{scope} {n} {part}" for part in range(n % 7 + 1)]
        for scope in ("", "ada", "bob", "eve")
        for n in range(25)
    }
    found = await asyncio.gather(
        *(embedder.documents(wanted, scope) for (scope, _), wanted in texts.items())
    )
    for wanted, vectors in zip(texts.values(), found, strict=True):
        assert [numbers(one) for one in vectors] == [pytest.approx(vector(text)) for text in wanted]


async def test_a_lone_scope_may_have_all_calls(made):
    """All callers of a tenant without owners have one scope, however many keys there are."""
    model = HeldModel()
    embedder = made(model, share=0.75, calls=4, batch_texts=1, waiting_texts=8)
    puts = []
    for number in range(12):
        puts.append(asyncio.ensure_future(embedder.documents([f"{number}"])))
        await turns()
    assert len(model.calls) == 4
    model.go_on.set()
    await asyncio.gather(*puts)


class Odd:
    """As an array of no dimensions."""

    def __len__(self) -> int:
        raise TypeError("len() of unsized object")


BAD = {
    "refused": lambda texts: _raise(Refusal(400)),
    "unfit": lambda texts: [[float("nan")] * DIMS for _ in texts],
    "error": lambda texts: _raise(ValueError("no")),
    "no length": lambda texts: type(
        "Odd", (), {"__len__": lambda self: _raise(TypeError("0-d"))}
    )(),
}


def _raise(error: Exception):
    raise error


@pytest.mark.parametrize("kind", BAD)
async def test_a_text_of_one_scope_fails_no_item_of_another(made, kind):
    go_on = asyncio.Event()

    async def model(texts):
        await go_on.wait()
        return BAD[kind](texts) if "bad" in texts else await aembed(texts)

    embedder = made(model, calls=1, batch_texts=8, attempts=2)
    first = asyncio.ensure_future(embedder.documents(["first"], "ada"))
    await turns()
    ada = asyncio.ensure_future(embedder.documents(["tea"], "ada"))
    bob = asyncio.ensure_future(embedder.documents(["bad"], "bob"))
    carol = asyncio.ensure_future(embedder.documents(["cake"], "carol"))
    await turns()
    go_on.set()
    await asyncio.gather(first, ada, carol)
    assert numbers(ada.result()[0]) == pytest.approx(vector("tea"))
    with pytest.raises((EmbeddingRefused, EmbeddingFailed)):
        await bob


async def test_what_fails_of_one_scope_takes_no_place_of_another(made):
    """ada's call took bob's text along, and bob's text makes the model hang."""
    hangs, hung = asyncio.Event(), []

    async def model(texts):
        if "hang" in texts:
            hung.append(list(texts))
            await hangs.wait()
        return await aembed(texts)

    embedder = made(
        model, share=0.75, calls=4, call_seconds=0.1, attempts=3, wait_seconds=2, batch_texts=8
    )
    ada = asyncio.ensure_future(embedder.documents(["tea"], "ada"))
    bob = asyncio.ensure_future(embedder.documents(["hang"], "bob"))
    assert numbers((await ada)[0]) == pytest.approx(vector("tea"))
    assert embedder._calls.places.held_by("ada") == 0
    with pytest.raises(EmbeddingFailed):
        await bob
    assert sum("tea" in texts for texts in hung) <= 1


async def test_a_scope_whose_texts_have_gone_takes_no_place_for_those_of_others(made):
    model = HeldModel()
    embedder = made(model, share=0.75, calls=4, batch_texts=8)
    await known(embedder, model, "bob")
    held = [asyncio.ensure_future(embedder.query(f"b? {n}", "bob")) for n in range(3)]
    held.append(asyncio.ensure_future(embedder.query("a?", "ada")))
    await turns()
    puts = [asyncio.ensure_future(embedder.documents([f"a {n}"], "ada")) for n in range(4)]
    await turns()
    late = [asyncio.ensure_future(embedder.documents([f"b {n}" * 9], "bob")) for n in range(20)]
    await turns()
    model.go_on.set()
    await asyncio.gather(*held, *puts, *late)
    assert embedder._calls.places.taken == 0
    assert not embedder._workers


async def test_those_that_give_up_make_room_at_once(made):
    model = HeldModel()
    embedder = made(model, calls=1, batch_texts=1, waiting_texts=4)
    puts = []
    for number in range(5):
        puts.append(asyncio.ensure_future(embedder.documents([str(number)])))
        await turns()
    for put in puts[1:]:
        put.cancel()
    await turns()
    others = [asyncio.ensure_future(embedder.documents([f"later {n}"])) for n in range(4)]
    await turns()
    model.go_on.set()
    await asyncio.gather(puts[0], *others)


@pytest.mark.parametrize("scopes", [("ada",), ("ada", "bob")])
async def test_nothing_is_asked_for_those_that_gave_up_while_a_call_failed(made, scopes):
    model = HeldModel()

    async def refuses(texts):
        await model(texts)
        raise Refusal(400)

    embedder = made(refuses, calls=1, batch_texts=8)
    puts = [
        asyncio.ensure_future(embedder.documents([f"{n}"], scopes[n % len(scopes)]))
        for n in range(6)
    ]
    await turns()
    assert [len(call) for call in model.calls] == [6]
    for put in puts:
        put.cancel()
    await turns()
    model.go_on.set()
    await turns()
    assert len(model.calls) == 1
