"""``headrace purge``: erases what the database holds of a user, or of a tenant."""

import json
import sys
from dataclasses import replace
from typing import Annotated, Any

import typer

from headrace.auth.principal import DEFAULT_TENANT, SYSTEM_TENANT
from headrace.erasure.namespaces import NamespaceList
from headrace.erasure.purge import Erasure
from headrace.erasure.purge import purge as purge_rows
from headrace.erasure.subject import USER, Subject
from headrace.observability.logging import configure_logging
from headrace.observability.printable import printable
from headrace.settings import Settings

#: A shell's bytes that are no UTF-8, and names longer than any identity.
_MOST_CHARACTERS = 1024


def purge(
    user: Annotated[
        str, typer.Option(help="The owner whose rows are erased, as its identity is written.")
    ] = "",
    tenant: Annotated[
        str,
        typer.Option(help="The tenant of --user (default: `default`); alone: the whole tenant."),
    ] = "",
    namespace: Annotated[
        list[str] | None,
        typer.Option(
            help="A namespace of shared items that is the user's too, with all below it, as"
            " notes.{user}; * is any label. May be given several times."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would be erased, and change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Erase a user or a tenant from the database, while servers go on (docs/erasure.md).

    Runs that are under way are stopped first. Exit with 1 when rows are left; run it again then.
    """
    subject = _subject(user, tenant, namespace or [])
    settings = Settings()
    configure_logging(settings.observability)
    if not (dry_run or yes):
        _confirm(subject, purge_rows(settings.database, subject, dry_run=True))
    found = purge_rows(settings.database, subject, dry_run=dry_run)
    typer.echo(_json(subject, found) if as_json else _text(found), nl=False)
    if found.left:
        typer.echo(
            "some rows are left: they were in use, or were made meanwhile. Take the caller's access"
            " away, and run the command again.",
            err=True,
        )
        raise typer.Exit(1)


def _subject(user: str, tenant: str, namespaces: list[str]) -> Subject:
    """:raises typer.BadParameter: with a sentence."""
    if not user and not tenant:
        raise typer.BadParameter("name whom to erase: --user OWNER, or --tenant TENANT alone")
    for option, given in (("--user", user), ("--tenant", tenant)):
        if not given.isprintable() or len(given) > _MOST_CHARACTERS:
            raise typer.BadParameter(f"{option} has characters that no name has, or too many")
    if tenant == SYSTEM_TENANT:
        raise typer.BadParameter("tenant system is headrace's own: it has no user's rows")
    if namespaces and not user:
        raise typer.BadParameter("--namespace is for --user: a tenant's items go as a whole")
    patterns = [tuple(pattern.split(".")) for pattern in namespaces]
    for pattern in patterns:
        if "" in pattern or pattern.count(USER) != 1:
            raise typer.BadParameter(
                f"--namespace needs labels with dots between them, and {USER} as one of them"
            )
    subject = Subject(tenant or DEFAULT_TENANT, user or None)
    return replace(subject, namespaces=(*subject.namespaces, *patterns))


def _confirm(subject: Subject, found: Erasure) -> None:
    """:raises typer.Abort: the operator does not want it."""
    if not sys.stdin.isatty():
        raise typer.BadParameter("give --yes, or --dry-run: there is nobody to ask")
    typer.echo(_text(found), err=True, nl=False)
    whom = f"user {printable(subject.owner)} of " if subject.owner else ""
    typer.confirm(
        f"Erase these rows of {whom}tenant {printable(subject.tenant)} for ever?",
        abort=True,
        err=True,
    )


def _json(subject: Subject, found: Erasure) -> str:
    document = {
        "tenant": subject.tenant,
        "user": subject.owner,
        "dry_run": not found.done,
        "rows": found.rows,
        "left": found.left,
        "shared_threads": found.shared_threads,
        "stray_events": found.stray_events,
        "shared_namespaces": {
            "of_user": _listed(found.namespaces.of_user),
            "doubtful": _listed(found.namespaces.doubtful),
        },
    }
    return json.dumps(document, indent=2) + "\n"


def _listed(found: NamespaceList) -> dict[str, Any]:
    named = [{"namespace": labels.split("."), "items": items} for labels, items in found.listed]
    return {"namespaces": named, "more": found.more}


def _text(found: Erasure) -> str:
    head = "erased" if found.done else "found"
    lines = [f"{'table':<26}{head:>12}{'left':>12}"]
    for name, count in found.rows.items():
        lines.append(f"{name:<26}{count:>12,}{found.left.get(name, 0):>12,}")
    if found.shared_threads:
        lines.append(
            f"{found.shared_threads} threads of others have had runs of this user: what is in their"
            " states stays"
        )
    if found.stray_events:
        lines.append(f"{found.stray_events} events of runs that were gone before are erased too")
    of_user, doubtful = found.namespaces.of_user, found.namespaces.doubtful
    if of_user.listed:
        lines.append(f"shared items of this user, {head}:")
        lines += _lines(of_user)
    if doubtful.listed:
        lines.append(
            "shared items that stay: a label is the user's name, but nothing says that the items"
            f" are the user's. If they are, give --namespace, for example notes.{USER}:"
        )
        lines += _lines(doubtful)
    return "".join(f"{line}\n" for line in lines)


def _lines(found: NamespaceList) -> list[str]:
    lines = [f"  {printable(labels)} ({items:,})" for labels, items in found.listed]
    return [*lines, f"  and {found.more:,} more namespaces"] if found.more else lines
