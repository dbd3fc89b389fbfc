"""The model: what must be true of every history, whatever went wrong meanwhile. Pure.

Each rule is a function from a history to sentences, one for each violation; ``RULES`` names them as
the table does.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from tests.chaos.history import GONE, TERMINAL, Entry, Event, Failure, History, Run, by_thread
from tests.chaos.losses import may_be_lost, met_a_promotion
from tests.chaos.memory import MAX_GROWTH_BYTES, judged
from tests.chaos.slots import slots_of_crons
from tests.chaos.streams import gaps_and_duplicates

Rule = Callable[[History], Iterator[str]]


def one_terminal_status(history: History) -> Iterator[str]:
    """Every accepted run has one, the row says it, and nobody was told another."""
    rows = {run.run_id: run for run in history.final.runs}
    for run in history.final.runs:
        if run.status not in TERMINAL:
            yield f"run {run.run_id} is {run.status} for good"
    for asked in history.asked:
        if may_be_lost(history, asked.accepted_at):
            continue
        if GONE not in asked.may:
            for run_id in asked.run_ids - rows.keys():
                yield f"accepted run {run_id} ({asked.kind}) has no row"
        for status, at in dict(zip(asked.told, asked.told_at, strict=True)).items():
            if may_be_lost(history, at):
                continue
            own = [rows[run_id].status if run_id in rows else GONE for run_id in asked.run_ids]
            if own and status not in own:
                yield f"{asked.kind} {sorted(asked.run_ids)} was told {status}, the row says {own}"


def runs_go_on(history: History) -> Iterator[str]:
    """The graph never fails: a run that nobody stops and that ends otherwise than well was given
    up."""
    may = {asked.name: asked.may for asked in history.asked}
    for run in history.final.runs:
        allowed = may.get(run.name, ["success"])
        if run.status in TERMINAL and run.status != "success" and run.status not in allowed:
            yield f"run {run.run_id} ended as {run.status} after {run.failures} failures"


def as_asked(history: History) -> Iterator[str]:
    """Who is stopped, stops; who is undone leaves nothing; who is refused has no run; who is for
    later does not begin before."""
    rows = _grouped(history.final.runs)
    for asked in history.asked:
        if met_a_promotion(history, asked):
            continue  # that it was asked to stop
        runs = rows.get(asked.name, [])
        log = history.final.logs.get(asked.thread_id, [])
        if asked.refused and not asked.accepted and runs:
            yield f"{asked.kind} {asked.name} was refused and has {len(runs)} runs"
        if asked.accepted and "success" not in asked.may:
            yield from (
                f"run {run.run_id} ({asked.kind}) ended as {run.status}, was to be {asked.may}"
                for run in runs
                if run.status not in asked.may
            )
        own = [entry for entry in log if entry.turn == asked.turn]
        if GONE in asked.may and not runs and own:
            yield f"run of {asked.kind} {asked.name} was undone and has left {len(own)} steps"
        if any(entry.at < asked.not_before for entry in own):
            yield f"{asked.kind} {asked.name} began before its time"


def no_thread_busy_without_a_run(history: History) -> Iterator[str]:
    active = {run.thread_id for run in history.final.runs if run.status in ("pending", "running")}
    running = {run.run_id for run in history.final.runs if run.status == "running"}
    for thread in history.final.threads:
        if thread.running_run_id is not None and thread.running_run_id not in running:
            yield f"thread {thread.thread_id} belongs to {thread.running_run_id}, which is over"
        if (thread.status == "busy") != (thread.thread_id in active):
            yield (
                f"thread {thread.thread_id} is {thread.status} and has"
                f" {'an' if thread.thread_id in active else 'no'} active run"
            )


def acknowledged_turns(history: History) -> Iterator[str]:
    """What a client was shown is the beginning of what there is; no step is lost, none there twice.

    A turn that nobody was told about may be there or not, but not twice.
    """
    for thread_id, log in history.final.logs.items():
        steps = Counter((entry.turn, entry.step) for entry in log)
        for (turn, step), times in steps.items():
            if times > 1:
                yield f"thread {thread_id}: step {step} of turn {turn} is there {times} times"
    for asked in history.asked:
        if asked.kind == "undisturbed":
            continue  # its stream is judged, and its state was not read
        log = history.final.logs.get(asked.thread_id, [])
        for shown, at in zip(asked.shown, asked.shown_at, strict=True):
            if log[: len(shown)] != shown and not may_be_lost(history, at):
                yield f"thread {asked.thread_id} is not what {asked.kind} {asked.turn} was shown"
        if "success" in asked.told and not may_be_lost(history, asked.told_at[0]):
            there = {entry.step for entry in log if entry.turn == asked.turn}
            if missing := set(asked.steps) - there:
                yield f"{asked.kind} {asked.turn} was told success, but lacks steps {missing}"


def histories_are_chains(history: History) -> Iterator[str]:
    """One chain per thread; runs on it do not overlap, nor do attempts of a run."""
    for thread_id, chain in by_thread(history.final.checkpoints).items():
        children = Counter(one.parent_id for one in chain)
        for parent, count in children.items():
            if count > 1:
                yield f"thread {thread_id}: {count} checkpoints follow {parent}"
        known = {one.id for one in chain}
        for one in chain:
            if one.parent_id is not None and one.parent_id not in known:
                yield f"thread {thread_id}: {one.id} follows {one.parent_id}, which is not there"
        yield from _overlaps(thread_id, [(one.run_id, one.attempt) for one in chain])
    for thread_id, log in history.final.logs.items():
        yield from _overlaps(thread_id, [(entry.run_id, entry.attempt) for entry in log])
        yield from _steps_out_of_order(thread_id, log)


def no_write_after_the_lease(history: History) -> Iterator[str]:
    """Nothing is committed for a run that is over, nor for an attempt once a later one has written.

    By the time of the commits, so that also a write that is well in its place is found.
    """
    over = {
        run.run_id: run.written_at
        for run in history.final.runs
        if run.status in TERMINAL and run.written_at is not None
    }
    first: dict[tuple[str, int], float] = {}
    for one in history.final.checkpoints:
        if one.written_at is not None:
            key = (one.run_id, one.attempt)
            first[key] = min(one.written_at, first.get(key, one.written_at))
    for one in history.final.checkpoints:
        if one.written_at is None:
            continue
        if one.written_at > over.get(one.run_id, one.written_at):
            yield f"run {one.run_id} was over when attempt {one.attempt} wrote {one.id}"
        if one.written_at > first.get((one.run_id, one.attempt + 1), one.written_at):
            yield f"attempt {one.attempt} of {one.run_id} wrote {one.id} after the next one had"
    there = {run.run_id for run in history.final.runs}
    for one in history.final.checkpoints:
        if one.run_id not in there:
            yield f"{one.id} is of run {one.run_id}, which was undone"


def webhooks_arrive(history: History) -> Iterator[str]:
    """The receiver is told of each end at least once, and of no other end."""
    if history.asynchronous:
        return  # A promotion may have lost an end that a receiver was told.
    told = history.final.told_webhooks
    for run in history.final.runs:
        if not run.has_webhook or run.status not in TERMINAL:
            continue
        statuses = told.get(run.run_id, set())
        if not statuses:
            yield f"nobody was told that run {run.run_id} has ended as {run.status}"
        elif statuses != {run.status}:
            yield f"run {run.run_id} is {run.status}, its receiver was told {sorted(statuses)}"


def _overlaps(thread_id: str, writers: Sequence[tuple[str, int]]) -> Iterator[str]:
    seen: dict[str, int] = {}
    previous = ""
    for run_id, attempt in writers:
        if run_id != previous and run_id in seen:
            yield f"thread {thread_id}: run {run_id} wrote after another one had begun"
        if attempt < seen.get(run_id, 0):
            yield f"thread {thread_id}: attempt {attempt} of {run_id} wrote after a later one"
        seen[run_id] = max(attempt, seen.get(run_id, 0))
        previous = run_id


def _steps_out_of_order(thread_id: str, log: Sequence[Entry]) -> Iterator[str]:
    expected: dict[str, int] = defaultdict(int)
    for entry in log:
        if entry.step != expected[entry.turn]:
            yield (
                f"thread {thread_id}: step {entry.step} of turn {entry.turn}"
                f" where {expected[entry.turn]} is due"
            )
        expected[entry.turn] = entry.step + 1


def resumable_streams(history: History) -> Iterator[str]:
    """No gap and no duplicate, over all connections; what is read again is what was read."""
    for asked in history.asked:
        if asked.kind != "resumable" or not asked.accepted:
            continue
        if met_a_promotion(history, asked):
            continue  # its last events
        for found in gaps_and_duplicates(asked):
            yield f"run {sorted(asked.run_ids)}: {found}"


def no_step_again_after_a_drain(history: History) -> Iterator[str]:
    """A step that ended in an attempt that a drain gave back is not begun in a later attempt."""
    if history.asynchronous:
        return  # A promotion may have lost the checkpoint of the step.
    ended: dict[tuple[str, str, int], int] = {}
    for one in history.final.node_events:
        place = (one.run_id, one.turn, one.step)
        if one.event == "ended" and (one.run_id, one.attempt) in history.final.released:
            ended[place] = one.attempt
        elif one.event == "begun" and ended.get(place, one.attempt) < one.attempt:
            yield (
                f"run {one.run_id}: attempt {one.attempt} began step {one.step} again, which had"
                f" ended in attempt {ended[place]}, before a drain"
            )


def requests_carried_through(history: History) -> Iterator[str]:
    """No start, join, stream or status failed in a way that the SDK does not get over by itself.

    It connects again when a connection is refused, and follows ``Location`` when an answer breaks
    off. It waits for longer than these clients. No client gets over the death of the process that
    has its request and has not answered yet.
    """
    for asked in history.asked:
        for failure in asked.failures:
            if failure.request in _JUDGED and not _gets_over(failure):
                if any(begun <= failure.at <= until for begun, until in history.deaths):
                    continue
                yield f"{asked.kind} {asked.name}: {failure.request}: {failure.what}"


#: What the SDK sends for a run. It sends no idempotency keys.
_JUDGED = frozenset({"start", "follow", "status"})
_TRIED_AGAIN = ("ConnectError", "ConnectTimeout", "ReadTimeout", "PoolTimeout")


def _gets_over(failure: Failure) -> bool:
    if failure.what.isdigit():
        # That a thread is busy, or a run is gone, is an answer.
        return int(failure.what) < 500
    return failure.request == "follow" or failure.what.startswith(_TRIED_AGAIN)


def plain_streams(history: History) -> Iterator[str]:
    """Of streams that nothing disturbed: complete, in order."""
    for asked in history.asked:
        if asked.kind == "undisturbed":
            wanted = [{"step": step, "token": token} for step in asked.steps for token in (0, 1)]
            got = [tokens(event) for event in asked.events if event.name == "custom"]
            if got != wanted or not asked.stream_ended:
                yield f"stream of {asked.turn}: {len(got)} of {len(wanted)}; {asked.errors}"


def tokens(event: Event) -> dict[str, int]:
    return {key: event.data[key] for key in ("step", "token")}


def idempotency(history: History) -> Iterator[str]:
    """However often it was asked for, and of whom: one run."""
    rows: Mapping[str, list[Run]] = _grouped(history.final.runs)
    for asked in history.asked:
        runs = rows.get(asked.name, [])
        if met_a_promotion(history, asked):
            continue  # the key of its run
        if len(runs) > 1:
            yield f"{asked.kind} {asked.name} made {len(runs)} runs"
        if len(asked.run_ids) > 1:
            yield f"{asked.kind} {asked.name} was told of {len(asked.run_ids)} runs"


def _grouped(runs: Iterable[Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        found[run.name].append(run)
    return found


def pool_connections(history: History) -> Iterator[str]:
    for process, leaked in history.final.leaked.items():
        if leaked:
            yield f"process {process} has lost {leaked} connections"


def memory(history: History) -> Iterator[str]:
    """Flat: the slope after the warm-up, over the time that is left (memory.py)."""
    for process, grown in judged(history.final.memory).items():
        if grown > MAX_GROWTH_BYTES:
            yield f"process {process} grows by {grown / (1 << 20):.1f} MiB after its warm-up"


RULES: dict[str, Rule] = {
    "one terminal status": one_terminal_status,
    "runs go on": runs_go_on,
    "stopped, undone, refused, later: as asked": as_asked,
    "no thread busy without a run": no_thread_busy_without_a_run,
    "no acknowledged turn missing or twice": acknowledged_turns,
    "one chain, attempts do not overlap": histories_are_chains,
    "no write after the lease is lost": no_write_after_the_lease,
    "resumable streams: no gap, no duplicate": resumable_streams,
    "undisturbed streams complete": plain_streams,
    "no step that ended before a drain is begun again": no_step_again_after_a_drain,
    "no request failed that the SDK would not carry through": requests_carried_through,
    "idempotent retries: one run": idempotency,
    "webhooks: each end at least once": webhooks_arrive,
    "each slot of a cron: one run, none passed over": slots_of_crons,
    "pool connections leaked": pool_connections,
    "memory flat": memory,
}


def violations(history: History) -> dict[str, list[str]]:
    """By rule, in the order of the table."""
    return {name: list(rule(history)) for name, rule in RULES.items()}


def lost(history: History) -> int:
    """How much is missing that an asynchronous standby may lack: no violations, but counted."""
    strictly = violations(replace(history, asynchronous=False))
    return sum(map(len, strictly.values())) - sum(map(len, violations(history).values()))
