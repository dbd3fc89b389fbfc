"""Runs that nobody waits for at first: queued, looked at, joined, and counted."""

import random
import uuid

from loadtests.common.api import Api, require

_RUNS = 3


def background(api: Api) -> None:
    """Some runs on one thread, one behind the other; each is joined."""
    thread_id = api.new_thread()
    words = [uuid.uuid4().hex for _ in range(_RUNS)]
    run_ids = []
    for word in words:
        body = {
            "assistant_id": "sleeper",
            "input": {"word": word, "seconds": random.uniform(0.0, 0.1)},
            "multitask_strategy": "enqueue",
        }
        made = api.ask(
            "POST",
            f"/threads/{thread_id}/runs",
            body,
            name="/runs",
            check=lambda run: require(run["thread_id"], thread_id, "another thread"),
        )
        run_ids.append(made["run_id"])
    for number, (run_id, word) in enumerate(zip(run_ids, words, strict=True), start=1):
        _join(api, thread_id, run_id, word, times=number)
    _count(api, thread_id)


def _join(api: Api, thread_id: str, run_id: str, word: str, *, times: int) -> None:
    """The values are those of this run: what it was given, and how many came before it."""
    api.ask(
        "GET",
        f"/threads/{thread_id}/runs/{run_id}/join",
        name="/runs/{id}/join",
        check=lambda values: require((values["said"], values["times"]), (word, times), "values"),
    )
    api.ask(
        "GET",
        f"/threads/{thread_id}/runs/{run_id}",
        name="/runs/{id}",
        check=lambda run: require(run["status"], "success", "status of a joined run"),
    )


def _count(api: Api, thread_id: str) -> None:
    api.ask(
        "GET",
        f"/threads/{thread_id}/runs?limit=10&select=run_id&select=status",
        name="/runs of a thread",
        check=lambda runs: require(
            [run["status"] for run in runs], ["success"] * _RUNS, "runs of the thread"
        ),
    )
