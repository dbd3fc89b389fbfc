"""The store of one scope: other scopes are not there, whatever labels a caller sends."""

import asyncio
import threading
from typing import Any

import pytest
from langgraph.store.base import (
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    SearchOp,
)

from headrace.auth.principal import ANONYMOUS, Principal
from headrace.auth.store_scope import store_scope
from headrace.checkpoints.scoped_store import RunStore, ScopedStore, in_store_scope
from headrace.checkpoints.store import Store
from headrace.checkpoints.store_roots import ROOT
from tests.support.database import open_pool

NOTES = ("notes", "ada")


@pytest.fixture
async def store(database_url):
    async with open_pool(database_url, pool_min=4, pool_max=6) as pool:
        made = Store(pool, observe=lambda operation, seconds: None)
        yield made
        await made.close()


async def everything(store):
    found = await store.asearch((), limit=100)
    return sorted((*item.namespace, item.key) for item in found)


def test_who_has_which_scope():
    def of(identity="ada", **more):
        return store_scope(Principal(identity, **more))

    assert store_scope(ANONYMOUS) is None
    assert of() is None
    assert of(tenant="acme") == "acme"
    assert of(tenant="acme", whole_tenant=False) == "acme/ada"
    assert of(whole_tenant=False) == "default/ada"
    # No tenant and owner look like others, and no label has a period.
    names = [
        of(identity, tenant=tenant, whole_tenant=whole)
        for tenant in ("a", "a/b", "a.b", "a%2Fb", "a%2Eb")
        for identity in ("c", "b/c", "b.c")
        for whole in (True, False)
    ]
    assert len(set(names)) == 5 * (3 + 1)
    assert not any("." in name for name in names)


async def test_scopes_do_not_see_each_other(store):
    views = [ScopedStore(store, scope) for scope in (None, "acme", "acme/ada", "acme-corp", "a_me")]
    for number, view in enumerate(views):
        await view.aput(NOTES, "k", {"n": number}, ttl=None)
    for number, view in enumerate(views):
        item = await view.aget(NOTES, "k")
        assert item is not None
        assert (item.value, item.namespace) == ({"n": number}, NOTES)
        for prefix in ((), ("notes",), NOTES):
            (found,) = await view.asearch(prefix)
            assert (found.value, found.namespace) == ({"n": number}, NOTES)
        assert await view.alist_namespaces() == [NOTES]
        assert await view.alist_namespaces(max_depth=1) == [("notes",)]
        assert await view.alist_namespaces(prefix=("*",), suffix=("ada",)) == [NOTES]
        assert await view.alist_namespaces(suffix=("*", "*", "ada")) == []
    await views[1].adelete(NOTES, "k")
    assert await views[1].aget(NOTES, "k") is None
    assert [await everything(view) for view in views] == [
        [] if number == 1 else [("notes", "ada", "k")] for number in range(5)
    ]


async def test_the_store_without_a_scope_is_as_langgraph_stores(store, database):
    await ScopedStore(store, None).aput(NOTES, "k", {"n": 1})
    assert database.execute("SELECT prefix, key FROM store").fetchall() == [("notes.ada", "k")]


async def test_operations_together(store):
    ada, eve = ScopedStore(store, "acme/ada"), ScopedStore(store, "globex/eve")
    await ada.abatch([PutOp(NOTES, "a", {"n": 1}), PutOp(NOTES, "b", {"n": 2})])
    ops: list[Op] = [
        GetOp(NOTES, "a"),
        GetOp(NOTES, "a"),
        SearchOp(("notes",)),
        ListNamespacesOp((MatchCondition("prefix", ("notes",)),)),
        PutOp(NOTES, "b", None),
    ]
    answers: list[Any] = await ada.abatch(ops)
    first, again, found, namespaces, none = answers
    assert first.namespace == again.namespace == NOTES
    assert {item.namespace for item in found} == {NOTES}
    assert (namespaces, none) == ([NOTES], None)
    assert await eve.abatch(ops) == [None, None, [], [], None]
    # Reads that come in one turn have one answer, and each caller gets its own.
    both = await asyncio.gather(*(one.aget(NOTES, "a") for one in [ada, eve, ada, eve] * 10))
    assert [one and one.namespace for one in both] == [NOTES, None] * 20
    in_thread = await asyncio.to_thread(ada.get, NOTES, "a")
    assert in_thread is not None
    assert in_thread.namespace == NOTES
    assert await asyncio.to_thread(eve.search, ("notes",)) == []


@pytest.mark.parametrize("view", [None, "acme/eve"])
async def test_no_labels_lead_into_another_scope(store, view):
    await ScopedStore(store, "acme").aput(NOTES, "k", {"secret": 1})
    eve = ScopedStore(store, view)
    for labels in (
        (ROOT, "acme", *NOTES),
        (ROOT, "acme"),
        (ROOT,),
        ("*", "acme", *NOTES),
        ("%",),
        ("_" * len(ROOT), "acme", *NOTES),
        ("\\",),
    ):
        for ask in (
            lambda at=labels: eve.aget(at, "k"),
            lambda at=labels: eve.asearch(at),
            lambda at=labels: eve.alist_namespaces(prefix=at),
            lambda at=labels: eve.alist_namespaces(suffix=at),
            lambda at=labels: eve.abatch([GetOp(at, "k"), SearchOp(at)]),
            lambda at=labels: eve.adelete(at, "k"),
        ):
            try:
                found = await ask()
            except InvalidNamespaceError:
                assert view is None
                continue
            assert found in (None, [], [None, []])
    # Labels with periods are refused everywhere; they would stay below the scope anyway.
    for labels in ((f"{ROOT}.acme.notes.ada",), ("a.b",), ("",)):
        with pytest.raises(InvalidNamespaceError):
            await eve.aget(labels, "k")
        with pytest.raises(InvalidNamespaceError):
            await eve.abatch([PutOp(labels, "k", {"n": 1})])
    assert await ScopedStore(store, "acme").aget(NOTES, "k") is not None


@pytest.mark.parametrize("scope", [None, "acme"])
async def test_labels_are_compared_as_they_are(store, scope):
    """Neither as the beginning of another label, nor as a pattern."""
    view = ScopedStore(store, scope)
    spaces = [
        ("tenant", "acme"),
        ("tenant", "acme", "x"),
        ("tenant", "acme-corp"),
        ("tenant", "ac_e"),
        ("tenant", "ac%"),
        ("tenant", "acXe"),
        ("tenantX", "acme"),
        ("t*", "acme"),
    ]
    for space in spaces:
        await view.aput(space, "k", {"n": 1})
    for prefix, wanted in {
        ("tenant", "acme"): spaces[:2],
        ("tenant", "ac_e"): [spaces[3]],
        ("tenant", "ac%"): [spaces[4]],
        ("t*",): [spaces[7]],
        ("tenant", "ac\\%"): [],
    }.items():
        found = await view.asearch(prefix, limit=100)
        assert sorted(item.namespace for item in found) == sorted(wanted)
        if "*" not in prefix[0]:
            assert sorted(await view.alist_namespaces(prefix=prefix)) == sorted(wanted)
    assert await view.alist_namespaces(suffix=("ac_e",)) == [spaces[3]]
    assert await view.alist_namespaces(suffix=("acme",), prefix=("tenant",)) == [spaces[0]]


async def test_a_store_that_a_graph_keeps_has_the_scope_of_the_run(store):
    kept = RunStore(store)
    await kept.aput(NOTES, "k", {"of": "all"})

    async def work(scope):
        with in_store_scope(scope):
            assert await kept.aget(NOTES, "k") is None
            await asyncio.create_task(kept.aput(NOTES, "k", {"of": scope}))
            await asyncio.sleep(0.01)
            item = await asyncio.to_thread(kept.get, NOTES, "k")
            assert item is not None
            assert item.value == {"of": scope}

    await asyncio.gather(*(work(f"acme/{number}") for number in range(20)))
    of_all = await kept.aget(NOTES, "k")
    assert of_all is not None
    assert of_all.value == {"of": "all"}
    # A thread of its own does not know the run, but the store of the run does.
    explicit = kept.of("acme/3")
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(explicit.get(NOTES, "k")))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert seen[0].value == {"of": "acme/3"}


async def test_times_to_live_hold_in_a_scope(store, database):
    view = ScopedStore(store, "acme")
    assert view.supports_ttl
    await view.aput(NOTES, "k", {"n": 1}, ttl=5)
    assert database.execute("SELECT ttl_minutes FROM store").fetchone() == (5,)
    database.execute("UPDATE store SET expires_at = now() - interval '1 minute'")
    assert await view.aget(NOTES, "k") is None
    assert await view.alist_namespaces() == []


async def test_lists_of_namespaces_that_come_together_stay_apart(store):
    """LangGraph makes equal operations of one batch one. No caller can name ours."""
    acme, whole = ScopedStore(store, "acme"), ScopedStore(store, None)
    await acme.aput(NOTES, "k", {"n": 1})

    async def guessed() -> list[tuple[str, ...]] | None:
        try:
            return await whole.alist_namespaces(prefix=(ROOT, "acme"))
        except InvalidNamespaceError:
            return None

    for _ in range(3):
        own, stolen, again = await asyncio.gather(
            acme.alist_namespaces(), guessed(), acme.alist_namespaces()
        )
        assert (own, again) == ([NOTES], [NOTES])
        assert not stolen
    # Within a scope it is a label like others.
    assert await acme.alist_namespaces(prefix=(ROOT, "acme")) == []
