"""Random sequences of a saver's calls, such as LangGraph makes and worse."""

from typing import Any

from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME, SCHEDULED, TASKS
from langgraph.checkpoint.serde.types import _DeltaSnapshot as DeltaSnapshot
from langgraph.types import Interrupt, Send

from headrace.db.jsonb import PLAIN, is_exact
from tests.support.saver_calls import (
    Call,
    DeleteThread,
    GetTuple,
    History,
    ListThem,
    Place,
    Prune,
    Put,
    PutWrites,
)

THREADS = ("one", "two", "dr\u00fce", "4", "", "six")
#: Where most calls go, so that they meet what earlier ones left.
_BUSY = THREADS[:2]
#: Ids that no row can hold; whoever else is in the same batch must not suffer.
_BAD_THREADS = ("n\0", "half \ud800")
NAMESPACES = ("", "child:1", "k\u00efnd|enkel:2")
CHANNELS = ("messages", "\u00e4", "__start__")
_SPECIAL = (ERROR, INTERRUPT, RESUME, SCHEDULED)
_TASKS = tuple(f"{n:08d}-0000-0000-0000-000000000000" for n in range(3))
_STEPS = 4


@st.composite
def mostly(draw: Any, usual: Any, rare: Any, times: int = 12) -> Any:
    """What no saver can store would otherwise leave little that is stored."""
    return draw(rare if draw(st.integers(0, times)) == times else usual)


_texts = mostly(
    st.sampled_from(["", "plain", "gr\u00fc\u00dfe", "\U0001f375", "\\u0000", '"', "\x7f"]),
    # Nor half a surrogate pair: Postgres refuses it in JSON. test_saver.py has what is kept.
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6),
)
#: Kept in the checkpoint itself. What JSON of Postgres would change is stored otherwise than
#: upstream's on purpose; test_saver.py holds that.
_primitives = mostly(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.sampled_from([0.0, -0.0, 1.0, 0.1, 2**31, -(2**63)]),
        _texts,
    ),
    st.floats(-1e15, 1e15),
)
#: Kept in blobs, byte for byte as upstream's.
_odd = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from(["n\0l", 1e300, 2**64 - 1])
_messages = st.one_of(
    st.builds(HumanMessage, _texts, id=st.sampled_from("123")),
    st.builds(AIMessage, _texts, id=st.sampled_from("123")),
    st.builds(lambda id: RemoveMessage(id=id), st.sampled_from("123")),
)
_containers = st.recursive(
    _primitives | _odd | _messages | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 3), inner, max_size=3)
    ),
    max_leaves=6,
)
_values = st.one_of(
    _primitives,
    _containers,
    st.lists(_messages, max_size=3),
    st.builds(DeltaSnapshot, st.lists(_messages, max_size=3)),
).filter(lambda value: not isinstance(value, PLAIN) or is_exact(value))
_writes = st.one_of(
    st.tuples(st.sampled_from(CHANNELS), _containers | st.lists(_messages, max_size=2)),
    st.tuples(st.sampled_from(_SPECIAL), _containers),
    st.tuples(st.just(INTERRUPT), st.builds(lambda v: [Interrupt(value=v, id="i")], _texts)),
    st.tuples(st.just(TASKS), st.builds(lambda v: Send("node", v), _primitives)),
)
#: What Postgres' JSON takes.
_json = st.recursive(
    _primitives,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_texts, inner, max_size=2),
    max_leaves=4,
)
_metadata = st.fixed_dictionaries(
    {},
    optional={
        "source": st.sampled_from(["input", "loop", "update", "fork"]),
        "step": st.integers(-2, 3),
        "parents": st.dictionaries(st.sampled_from(NAMESPACES), _texts, max_size=2),
        "run_id": st.sampled_from(["run-1", "run-2"]),
        "writes": _json,
        "counters_since_delta_snapshot": st.just({"messages": (1, 2)}),
        "more": _json,
    },
)
_filters = st.one_of(
    st.builds(lambda source: {"source": source}, st.sampled_from(["loop", "input"])),
    st.builds(lambda step: {"step": step}, st.integers(-2, 3)),
    _metadata,
)
#: Of the configuration; texts and numbers of it go into the metadata.
_more = st.dictionaries(
    st.sampled_from(["user_id", "source", "__hidden", "flag"]),
    _texts | st.booleans() | st.integers(0, 9) | st.none(),
    max_size=2,
)


def _version(kind: type, n: int) -> Any:
    return n if kind is int else f"{n:032}.0.{n:015}"


def places(threads: Any, numbers: Any, *, any_namespace: bool = False) -> Any:
    usual = st.sampled_from(["", "", "", *NAMESPACES])
    # Whoever writes must name one: leaving it out is the caller's mistake, and a KeyError.
    return st.builds(
        Place, threads, mostly(usual, st.none(), times=4 if any_namespace else 40), numbers
    )


@st.composite
def puts(draw: Any, threads: Any, kind: type) -> Put:
    number = draw(st.integers(1, _STEPS))
    # Parents are earlier: the walk to the ancestors would not end in a circle.
    parent = draw(st.none() | st.integers(0, number - 1))
    versions = {
        channel: _version(kind, draw(st.integers(1, 2)))
        for channel in draw(st.sets(st.sampled_from(CHANNELS), min_size=1))
    }
    some = st.sets(st.sampled_from(sorted(versions)))
    held, new = draw(st.just(set(versions)) | some), draw(st.just(set(versions)) | some)
    checkpoint = {
        # Before 4, pending sends are read from the parent's writes.
        "v": draw(st.sampled_from([4, 4, 4, 2])),
        "ts": f"2024-01-01T00:00:0{number}+00:00",
        "channel_values": {channel: draw(_values) for channel in sorted(held)},
        "channel_versions": versions,
        "versions_seen": {"node": {c: versions[c] for c in sorted(held)}, "__input__": {}},
        "updated_channels": draw(st.none() | st.just(sorted(new))),
    }
    return Put(
        place=draw(places(threads, st.just(parent))),
        number=number,
        checkpoint=checkpoint,
        metadata=draw(_metadata),
        new_versions={channel: versions[channel] for channel in new},
        more=draw(_more),
    )


def _put_writes(threads: Any) -> Any:
    return _writes_at(places(threads, st.integers(1, _STEPS)))


def _writes_at(place: Any) -> Any:
    return st.builds(
        PutWrites,
        place,
        st.one_of(
            st.lists(_writes, max_size=4),
            st.lists(st.tuples(st.sampled_from(_SPECIAL), _containers), max_size=4),
        ),
        st.sampled_from(_TASKS),
        st.sampled_from(["", "~__pregel_pull, node", "~__pregel_push, 1"]),
    )


def _reads(threads: Any) -> Any:
    anywhere = places(threads, st.none() | st.integers(0, _STEPS), any_namespace=True)
    return st.one_of(
        st.builds(GetTuple, places(threads, st.none(), any_namespace=True)),
        st.builds(
            History,
            anywhere,
            st.lists(st.sampled_from([*CHANNELS, "never"]), unique=True, max_size=3),
        ),
        st.builds(
            ListThem,
            anywhere,
            st.none() | _filters,
            st.none() | anywhere,
            st.sampled_from([None, None, 0, 1, 2, 100, -1]),
        ),
    )


#: Of calls, those that delete.
_RARELY = st.sampled_from([False] * 24 + [True])


@st.composite
def calls(draw: Any, threads: Any, kind: type) -> Call:
    """One call that touches the threads it is given and no other."""
    if draw(_RARELY):
        strategy = st.sampled_from(["keep_latest", "keep_latest", "delete", "nonsense"])
        one = places(threads, st.none())
        several = st.lists(one, max_size=1)
        found: Call = draw(st.builds(DeleteThread, one) | st.builds(Prune, several, strategy))
    else:
        found = draw(
            st.one_of(
                puts(threads, kind),
                puts(threads, kind),
                _put_writes(threads),
                _put_writes(threads),
                _reads(threads),
            )
        )
    return found


def _alone(kind: type) -> Any:
    """A step of one call."""
    threads = mostly(st.sampled_from(_BUSY), st.sampled_from([*THREADS, *_BAD_THREADS]), times=8)
    everything = st.builds(ListThem, st.none(), st.none() | _filters, st.none(), st.none())
    several = st.builds(
        Prune,
        st.lists(places(st.sampled_from(THREADS), st.none()), max_size=3),
        st.sampled_from(["keep_latest", "keep_latest", "delete"]),
    )
    return mostly(calls(threads, kind), everything | several).map(lambda call: [call])


@st.composite
def _at_once(draw: Any, kind: type) -> list[Call]:
    """A step of calls on different threads: what one does is nothing to the others."""
    one = mostly(st.sampled_from(THREADS), st.sampled_from(_BAD_THREADS))
    threads = draw(st.lists(one, unique=True, min_size=2, max_size=5))
    return [draw(calls(st.just(thread), kind)) for thread in threads]


@st.composite
def _superstep(draw: Any, kind: type) -> list[Call]:
    """What LangGraph does: a checkpoint, then the writes of the tasks that start from it."""
    put = draw(puts(st.sampled_from(_BUSY), kind))
    there = Place(put.place.thread, put.place.namespace, put.number)
    return [put, *draw(st.lists(_writes_at(st.just(there)), min_size=1, max_size=3))]


@st.composite
def sequences(draw: Any) -> list[list[Call]]:
    """Steps, one after the other; the calls of a step may be made at the same time.

    The last one asks about all that may be there.
    """
    kind = draw(st.sampled_from([str, str, int]))
    one_by_one = (_alone(kind) | _superstep(kind)).map(lambda calls: [[call] for call in calls])
    at_once = _at_once(kind).map(lambda calls: [calls])
    parts = draw(st.lists(mostly(one_by_one, at_once, times=3), min_size=5, max_size=16))
    found: list[list[Call]] = [step for part in parts for step in part]
    return [*found, _questions(found)]


def _questions(steps: list[list[Call]]) -> list[Call]:
    """About every checkpoint that was put, and the latest ones."""
    puts = [call for calls_at_once in steps for call in calls_at_once if isinstance(call, Put)]
    exact = dict.fromkeys(
        Place(put.place.thread, put.place.namespace or "", put.number) for put in puts
    )
    latest = dict.fromkeys(Place(place.thread, place.namespace) for place in exact)
    return [
        *[GetTuple(place) for place in (*exact, *latest)],
        *[History(place, CHANNELS) for place in latest],
        ListThem(None, None, None, None),
    ]
