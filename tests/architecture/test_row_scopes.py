"""Every statement on rows of callers has the scope of its caller, or a stated reason.

A statement in a file is in scope by ``:visible(...)``; one of SQLAlchemy by a function of
``auth/row_scope.py``. What is listed here is called with ids that a statement in scope has found,
or works for the server itself.
"""

import ast
import inspect
import re
from collections.abc import Iterator

import pytest

from headrace.assistants.repository import AssistantRepository
from headrace.auth.principal import Principal
from headrace.crons.repository import CronRepository
from headrace.idempotency.repository import IdempotencyRepository
from headrace.runs.repository import RunRepository
from headrace.runs.timeline_repository import TimelineRepository
from headrace.threads.repository import ThreadRepository
from headrace.threads.search_repository import ThreadSearchRepository
from headrace.threads.state_repository import StateRepository
from tests.support.sources import PACKAGE, modules

TABLES = "threads|runs|assistants|assistant_versions|crons|run_events|run_usage"
TABLES += "|webhook_deliveries|idempotency_keys"
ON_TABLES = re.compile(rf"\b(?:FROM|JOIN|INTO|UPDATE|USING)\s+(?:{TABLES})\b", re.IGNORECASE)

#: Files whose statements are called by the server itself: for what, and with which ids.
SERVERS_OWN = {
    "crons/due.sql": "makes the runs of due crons of all tenants; each as its own caller",
    "db/flush_2.sql": "writes for runs of this process, by their tokens; starts of callers that do"
    " not see all threads pass lock_scope first",
    "db/receipts.sql": "rows of no caller, by random ids",
    "db/triggers.sql": "the run whose end makes them act",
    "erasure/erasure.sql": "rows of the user or tenant that an operator erases",
    "events/log.sql": "events of a run that the caller was found to see",
    "following/run_watcher.sql": "follows a run that the caller was found to see",
    "runs/retention.sql": "old runs of all tenants",
    "threads/retention.sql": "old threads of all tenants",
    "usage/usage.sql": "the budget of the run's own owner, and reports of operators",
    "webhooks/deliveries.sql": "messages about runs of all tenants, and commands of operators",
}

#: The same for single statements.
OWN_STATEMENTS = {
    "following/thread_watcher.sql": {
        "mark_threads": "threads that mark_thread has found in scope",
        "mark_told": "a run that runs_since has found in scope",
    },
    "queue/queue.sql": {
        "create_threads_if_absent": "makes threads; lock_scope tells whose they are",
        "lock_keys": "the caller's own keys: RequestKey.route_of",
        "confirm_keys": "the caller's own keys: RequestKey.route_of",
        "lock_threads_to_queue_on": "after lock_scope",
        "remember_unfinished_runs_of_thread": "after lock_scope",
        "queue_runs_on_locked_threads": "after lock_scope",
        "queued_runs": "after lock_scope",
        "cancel_remembered_runs": "what remember_cancelled has found in scope",
        "lock_slots": "crons that this process has taken",
        "move_slots": "crons that this process has taken",
        "overdue_crons": "figures of the server",
        "overdue_webhooks": "figures of the server",
        "refresh_locked_threads": "locked threads",
        "lock_ready_threads": "the queue of all tenants",
        "ready_callers": "the queue of all tenants",
        "lock_ready_threads_of_callers": "the queue of all tenants",
        "pending_runs_of_callers": "the queue of all tenants",
        "look_for_lost_runs": "runs of lost processes",
        "lock_threads_of_rescued": "runs of lost processes",
        "lock_thread_of_suspect": "runs of lost processes",
        "claim_runs_of_locked_threads": "the queue of all tenants",
        "runs_of_process": "runs of this process",
        "requests_to_processes": "runs of these processes",
        "remove_run_if_owned": "a run of this process, by its token",
        "stop_request_of_run": "a run of this process",
        "keep_run_that_was_to_be_rolled_back": "a run of this process, by its token",
        "lock_thread_of_run": "a run of this process, by its token",
        "delete_temporary_threads": "threads that the server has made for one run each",
        "abandoned_temporary_threads": "threads that the server has made for one run each",
        "processes_to_take_from": "runs of lost processes",
        "dead_processes_to_take_from": "runs of lost processes",
        "lock_threads_of_lost_runs": "runs of lost processes",
        "take_lost_runs": "runs of lost processes",
        "threads_to_mend": "threads of all tenants",
        "lock_threads": "threads that a sweeper has found",
        "queue_figures": "figures of the server",
        "unserved_graphs": "figures of the server",
        "lock_threads_of_unserved": "runs of all tenants whose graph no process has",
        "end_unserved_runs": "runs of all tenants whose graph no process has",
        "threads_of_overdue": "runs of all tenants whose deadline has passed",
        "end_overdue_runs": "runs of all tenants whose deadline has passed",
        "forget_lost_processes": "processes without runs",
    },
    "runs/timeline.sql": {
        "run_before": "the thread of a run in scope",
        "runs_after": "the thread of a run in scope",
        "runs_ahead": "the thread of a run in scope",
        "events": "a run in scope",
        "tokens": "a run in scope",
    },
    "threads/removal.sql": {
        "owner_of_locked_thread": "after lock_thread, which is in scope",
        "delete_events": "after lock_thread, which is in scope",
        "delete_thread": "after lock_thread, which is in scope",
        "delete_ended_runs": "after is_at_rest, which is in scope; or a sweeper",
    },
    "threads/state.sql": {
        "create_thread": "makes the caller's thread, if no caller has the id",
        "state_changed": "after lock_thread, which is in scope",
    },
    "threads/threads.sql": {
        "insert_threads": "makes the caller's threads, if no caller has the ids",
    },
}

#: Functions with SQLAlchemy's rows, or SQL in strings, without a scope.
OWN_FUNCTIONS = {
    "threads/repository.py has_only_checkpoints": "tells of ids that no caller has",
    "assistants/repository.py create_if_absent": "makes the caller's assistant",
    "assistants/repository.py create_system": "the server's own assistants",
    "assistants/repository.py _delete_taken": "ids that belong to the server's own assistants",
    "assistants/repository.py _describe": "the server's own assistants",
    "assistants/repository.py _disable_crons": "crons of all callers stop with their assistant",
    "assistants/repository.py _store_version": "an assistant that was made, or locked",
    "crons/repository.py owned": "counts what the caller owns, whatever it sees",
    "crons/repository.py create_if_absent": "makes the caller's cron",
    "idempotency/repository.py take_if_absent": "the caller's own keys: RequestKey.route_of",
    "db/thread_configurations.py forgetting": "threads of runs that are deleted",
    "idempotency/repository.py delete_old": "old keys of all callers",
}

ROWS = {"ThreadRow", "RunRow", "AssistantRow", "AssistantVersionRow", "CronRow", "RunEventRow"}
ROWS |= {"RunUsageRow", "WebhookDeliveryRow", "IdempotencyKeyRow", "_Row"}
SCOPES = {"visible_thread", "visible_run", "visible_cron", "visible_assistant", "own_assistant"}
#: Functions that begin statements in scope.
SCOPES |= {"_is", "_readable", "_locked"}
VERBS = {"select", "update", "delete", "insert"}


def statements() -> Iterator[tuple[str, str, str]]:
    """File, name and text of each statement on these tables."""
    for path in sorted(PACKAGE.rglob("*.sql")):
        parts = re.split(r"^-- name: (\w+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for name, body in zip(parts[1::2], parts[2::2], strict=True):
            lines = [line for line in body.splitlines() if not line.lstrip().startswith("--")]
            text = "\n".join(lines)
            if ON_TABLES.search(text):
                yield str(path.relative_to(PACKAGE)), name, text


def without_scope() -> set[str]:
    """The statements of files that are not in scope."""
    return {f"{file} {name}" for file, name, text in statements() if ":visible" not in text}


def listed() -> set[str]:
    own = {f"{file} {name}" for file, name, _ in statements() if file in SERVERS_OWN}
    return own | {f"{file} {name}" for file, names in OWN_STATEMENTS.items() for name in names}


def test_each_statement_of_a_file_is_in_scope_or_has_a_reason():
    assert without_scope() - listed() == set()


def test_no_reason_is_left_over():
    assert listed() - without_scope() == set()


def test_a_statement_in_scope_compares_nothing_else_with_a_tenant():
    """What names a tenant beside the scope would bound rows in a way of its own."""
    for file, name, text in statements():
        if ":visible" in text and file not in SERVERS_OWN:
            compared = re.findall(r"\btenant\s*(?:=|IN\b)", text)
            assert not compared, f"{file} {name}"


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path.removeprefix("src/headrace/"), node


def unscoped_functions() -> set[str]:
    """Functions that make a statement of rows without a scope."""
    found = set()
    for path, function in functions():
        if path == "auth/row_scope.py":
            continue
        names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
        in_scope = names & (SCOPES - {function.name})
        makes = names & VERBS and names & ROWS
        texts = [
            node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        sql = " ".join(texts)
        writes = ON_TABLES.search(sql) and re.search(r"\b(?:SELECT|UPDATE|DELETE|INSERT)\b", sql)
        if (makes or writes) and not in_scope and not _is_text_in_scope(path, function):
            found.add(f"{path} {function.name}")
    return found


def _is_text_in_scope(path: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether its SQL is text with the scope: it uses values of a scope, or what builds them."""
    names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)}
    return bool(
        names & {"scope_values", "visible_text", "_conditions", "_VISIBLE", "Wanted", "_found"}
        or path in {"db/tables.py", "db/cron_tables.py", "db/table_base.py"}
    )


def test_each_function_with_rows_is_in_scope_or_has_a_reason():
    assert unscoped_functions() - OWN_FUNCTIONS.keys() == set()


def test_no_function_is_listed_in_vain():
    assert OWN_FUNCTIONS.keys() - unscoped_functions() == set()


def test_no_module_compares_tenants_by_itself():
    """Only ``auth/row_scope.py`` says how a tenant bounds rows."""
    found = set()
    for path, function in functions():
        for node in ast.walk(function):
            if isinstance(node, ast.Compare) and any(
                isinstance(one, ast.Attribute)
                and one.attr == "tenant"
                and isinstance(one.value, ast.Name)
                and one.value.id in ROWS
                for one in [node.left, *node.comparators]
            ):
                found.add(f"{path} {function.name}")
    assert found == {
        "auth/row_scope.py visible_run",
        # The key's own columns.
        "idempotency/repository.py _is",
        # The server's own assistants against those of callers.
        "assistants/repository.py _delete_taken",
        "idempotency/repository.py delete_old",
    }


#: Methods that see rows of no caller in particular, or none at all.
WITHOUT_CALLER = {
    "AssistantRepository.create_system",
    "CronRepository.now",
    "IdempotencyRepository.delete_old",
    "ThreadRepository.has_only_checkpoints",
}


@pytest.mark.parametrize(
    "repository",
    [
        AssistantRepository,
        CronRepository,
        IdempotencyRepository,
        RunRepository,
        StateRepository,
        ThreadRepository,
        ThreadSearchRepository,
        TimelineRepository,
    ],
)
def test_a_call_of_a_repository_names_its_caller(repository):
    for name, method in inspect.getmembers(repository, inspect.isfunction):
        if name.startswith("_") or f"{repository.__name__}.{name}" in WITHOUT_CALLER:
            continue
        parameters = list(inspect.signature(method).parameters.values())
        assert parameters[1].name == "principal", f"{repository.__name__}.{name}"
        assert parameters[1].annotation is Principal
        assert parameters[1].default is inspect.Parameter.empty
