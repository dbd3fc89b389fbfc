"""``headrace webhooks``: lists messages about ends of runs, and sends dead ones again."""

import json
from collections.abc import Sequence
from typing import Annotated, get_args
from uuid import UUID

import typer

from headrace.ids import canonical_uuid
from headrace.observability.printable import printable
from headrace.settings import Settings
from headrace.webhooks.repository import (
    DeliveryState,
    ListedDelivery,
    listed_deliveries,
    resend,
)

app = typer.Typer(help="Look at webhooks, and send dead ones again.", no_args_is_help=True)

_STATES: tuple[DeliveryState, ...] = get_args(DeliveryState)
_MOST_ROWS = 100_000


@app.callback()
def options() -> None:
    """Look at webhooks, and send dead ones again."""


@app.command("list")
def list_deliveries(
    state: Annotated[
        str, typer.Option(help=f"One of {', '.join(_STATES)}, or all of them.")
    ] = "dead",
    limit: Annotated[int, typer.Option(min=1, max=_MOST_ROWS, help="Rows, the newest first.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print messages about ends of runs; without options, those that headrace has given up."""
    chosen = _STATES if state == "all" else tuple(one for one in _STATES if one == state)
    if not chosen:
        raise typer.BadParameter(f"--state {state} is not one of {', '.join(_STATES)} and all")
    found = listed_deliveries(Settings().database, chosen, limit)
    typer.echo(_json(found) if as_json else _text(found), nl=False)


@app.command("resend")
def resend_deliveries(
    run_ids: Annotated[
        list[str] | None, typer.Argument(help="Runs whose messages are dead, by their ids.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All dead messages.")] = False,
) -> None:
    """Send dead messages again, each with all its calls; a receiver may get one twice."""
    if bool(run_ids) == every:
        raise typer.BadParameter("name the runs, or give --all")
    sent = resend(Settings().database, None if every else [_run_id(one) for one in run_ids or ()])
    typer.echo(f"{len(sent)} due again")
    if not every and (left := len(run_ids or ()) - len(sent)):
        typer.echo(f"{left} have no dead message", err=True)
        raise typer.Exit(1)


def _run_id(given: str) -> UUID:
    """:raises typer.BadParameter: it is none."""
    found = canonical_uuid(given.removeprefix("msg_"))
    if found is None:
        raise typer.BadParameter(f"{printable(given)} is no id of a run")
    return UUID(found)


def _json(found: Sequence[ListedDelivery]) -> str:
    return json.dumps([_fields(one) for one in found], indent=2) + "\n"


def _fields(one: ListedDelivery) -> dict[str, str | int | None]:
    times = {
        name: moment.isoformat() if (moment := getattr(one, name)) else None
        for name in ("created_at", "due_at", "settled_at")
    }
    return {
        "run_id": str(one.run_id),
        "thread_id": one.thread_id,
        "tenant": one.tenant,
        "receiver": one.receiver,
        "state": one.state,
        "tries": one.tries,
        "problem": one.problem,
        **times,
    }


def _text(found: Sequence[ListedDelivery]) -> str:
    if not found:
        return "there are none\n"
    return "".join(f"{_line(one)}\n" for one in found)


def _line(one: ListedDelivery) -> str:
    ended = one.created_at.isoformat(timespec="seconds")
    words = [str(one.run_id), one.state, f"{one.tries} tries", ended, printable(one.receiver)]
    return "  ".join([*words, printable(one.problem or "")]).rstrip()
