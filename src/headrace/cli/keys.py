"""``headrace keys``: creates, lists and revokes API keys of the database."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from headrace.auth.key_text import new_key, prefix_of
from headrace.auth.principal import DEFAULT_TENANT, is_name
from headrace.auth.repository import ListedKey, create_key, listed_keys, revoke_keys
from headrace.auth.scopes import SCOPES, USUAL, in_order, lets_in
from headrace.observability.printable import printable
from headrace.settings import Settings

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)

_MOST_ROWS = 100_000
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN = re.compile(rf"(\d{{1,6}})([{''.join(_UNITS)}])")
_PREFIX = re.compile(r"(?:hr_)?([0-9a-f]{12})")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def options() -> None:
    """Create, list and revoke API keys."""


@app.command("create")
def create(
    name: Annotated[str, typer.Option(help="What the key is for; shown in the list.")] = "",
    tenant: Annotated[str, typer.Option(help="Whose rows it can reach at most.")] = DEFAULT_TENANT,
    owner: Annotated[
        str | None,
        typer.Option(help="Who owns what is made with it; default: a name made of its prefix."),
    ] = None,
    scopes: Annotated[
        str,
        typer.Option(
            help="Some of read, write and tenant, separated by commas; with tenant it reaches the"
            " rows of all owners of its tenant."
        ),
    ] = ",".join(USUAL),
    expires: Annotated[
        str | None,
        typer.Option(help="When it stops to open: 90d, 12h, or 2027-01-31; default: never."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a key, and print it this one time: the database has only its digest."""
    key = new_key()
    created = create_key(
        Settings().database,
        key,
        name=name,
        tenant=_name(tenant, "--tenant"),
        owner=_name(f"key-{key.prefix}" if owner is None else owner, "--owner"),
        scopes=_scopes(scopes),
        expires_at=None if expires is None else _moment(expires, datetime.now(UTC)),
    )
    if as_json:
        typer.echo(json.dumps({"key": key.text, **_fields(created)}, indent=2))
        return
    typer.echo(_line(created), err=True)
    typer.echo("The key is shown this one time; send it as x-api-key:", err=True)
    # Alone on stdout, so that a shell can take it: KEY=$(headrace keys create)
    typer.echo(key.text)


@app.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Only those of this tenant.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Revoked and expired ones too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=_MOST_ROWS, help="Rows, the newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Print the keys that open, without their secrets."""
    found = listed_keys(Settings().database, tenant=tenant, every=every, limit=limit)
    typer.echo(_json(found) if as_json else _text(found), nl=False)


@app.command("revoke")
def revoke(
    prefixes: Annotated[
        list[str], typer.Argument(help="Keys by their prefixes, as the list has them, or whole.")
    ],
    as_json: AsJson = False,
) -> None:
    """Revoke keys for ever; servers refuse them within half a minute."""
    wanted = [_prefix(one) for one in prefixes]
    found = revoke_keys(Settings().database, wanted)
    typer.echo(_json(found) if as_json else _text(found), nl=False)
    if left := sorted(set(wanted) - {one.prefix for one in found}):
        typer.echo(f"no such key: {', '.join(left)}", err=True)
        raise typer.Exit(1)


def _name(given: str, option: str) -> str:
    """:raises typer.BadParameter: it cannot be a tenant or an owner."""
    if not is_name(given):
        raise typer.BadParameter(
            f"{option}: {printable(given)!r} is none; take 1 to 128 printable characters, and not"
            " system or anonymous"
        )
    return given


def _scopes(given: str) -> tuple[str, ...]:
    """:raises typer.BadParameter: a word is no scope, or a key with these could do nothing."""
    words = [word for part in given.split(",") if (word := part.strip())]
    if unknown := [word for word in words if word not in SCOPES]:
        raise typer.BadParameter(
            f"--scopes: {printable(unknown[0])} is not one of {', '.join(SCOPES)}"
        )
    if not lets_in(words):
        raise typer.BadParameter("--scopes: name read or write; without them a key opens nothing")
    return in_order(words)


def _moment(given: str, now: datetime) -> datetime:
    """:raises typer.BadParameter: it is no time, or not in the future."""
    span = _SPAN.fullmatch(given)
    try:
        if span is not None:
            moment = now + timedelta(**{_UNITS[span[2]]: int(span[1])})
        else:
            moment = datetime.fromisoformat(given)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"--expires: {printable(given)} is no time; take 90d, 12h, or 2027-01-31"
        ) from None
    # A date without a zone is one of UTC, as all times that headrace shows.
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    if moment <= now:
        raise typer.BadParameter(f"--expires: {printable(given)} is over already")
    return moment


def _prefix(given: str) -> str:
    """:raises typer.BadParameter: it is no prefix and no key."""
    found = _PREFIX.fullmatch(given)
    prefix = found[1] if found is not None else prefix_of(given)
    if prefix is None:
        # It may be a whole key with a typing error: do not repeat it.
        raise typer.BadParameter(
            "a prefix has 12 characters of 0-9 and a-f; `headrace keys list` shows them"
        )
    return prefix


def _json(found: Sequence[ListedKey]) -> str:
    return json.dumps([_fields(one) for one in found], indent=2) + "\n"


def _fields(one: ListedKey) -> dict[str, object]:
    times = {
        name: moment.isoformat() if (moment := getattr(one, name)) else None
        for name in ("created_at", "expires_at", "revoked_at", "last_used_at")
    }
    return {
        "id": str(one.key_id),
        "prefix": one.prefix,
        "name": one.name,
        "tenant": one.tenant,
        "owner": one.owner,
        "scopes": list(one.scopes),
        **times,
    }


def _text(found: Sequence[ListedKey]) -> str:
    if not found:
        return "there are none\n"
    return "".join(f"{_line(one)}\n" for one in found)


def _line(one: ListedKey) -> str:
    words = [
        one.prefix,
        f"tenant {printable(one.tenant)}",
        f"owner {printable(one.owner)}",
        ",".join(one.scopes),
        _state(one),
        f"used {_short(one.last_used_at)}" if one.last_used_at else "never used",
        printable(one.name),
    ]
    return "  ".join(words).rstrip()


def _state(one: ListedKey) -> str:
    if one.revoked_at is not None:
        return f"revoked {_short(one.revoked_at)}"
    if one.expires_at is None:
        return "never expires"
    word = "expires" if one.expires_at > datetime.now(UTC) else "expired"
    return f"{word} {_short(one.expires_at)}"


def _short(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="minutes")
