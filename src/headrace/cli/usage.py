"""``headrace usage``: the tokens that models have used, summed by what the operator asks for."""

import csv
import io
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, get_args

import typer

from headrace.checkpoints.tally import ModelUsage
from headrace.observability.printable import printable
from headrace.settings import Settings
from headrace.usage.repository import By, ReportQuestion, ReportRow, UsageReport, read_report

_AGE = re.compile(r"(\d{1,6})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_FIGURES = ("calls", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
_MOST_ROWS = 1_000_000


@dataclass(frozen=True, slots=True)
class _Form:
    as_json: bool
    as_csv: bool


def usage(
    by: Annotated[str, typer.Option(help=f"One of {', '.join(get_args(By))}.")] = "assistant",
    since: Annotated[
        str,
        typer.Option(help="First moment: 2026-11-01, 2026-11-01T09:00 (UTC), or an age like 7d."),
    ] = "30d",
    until: Annotated[
        str, typer.Option(help="First moment after the report, as --since; else now.")
    ] = "",
    tenant: Annotated[str, typer.Option(help="Only this tenant; else all.")] = "",
    limit: Annotated[int, typer.Option(help="Rows, the largest first; of days the newest.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Print calls and tokens of models, summed; docs/usage.md says what is counted."""
    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv exclude each other; give one of them")
    question = _question(by, since, until, tenant, limit)
    report = read_report(Settings().database, question)
    typer.echo(_text(question, report, _Form(as_json, as_csv)), nl=False)
    if left := report.groups - len(report.rows):
        typer.echo(f"{left} more rows; raise --limit to see them", err=True)


def _question(by: str, since: str, until: str, tenant: str, limit: int) -> ReportQuestion:
    """:raises typer.BadParameter: with a sentence."""
    known = {name: name for name in get_args(By)}
    if by not in known:
        raise typer.BadParameter(f"--by {by} is not one of {', '.join(known)}")
    if not 1 <= limit <= _MOST_ROWS:
        raise typer.BadParameter(f"--limit is a number from 1 to {_MOST_ROWS:,}")
    now = datetime.now(UTC)
    first = _moment("--since", since, now)
    after = _moment("--until", until, now) if until else None
    if first >= (after or now):
        raise typer.BadParameter("--since is not before --until, so the report would be empty")
    return ReportQuestion(known[by], first, after, tenant or None, limit)


def _moment(option: str, given: str, now: datetime) -> datetime:
    """A date, a time (UTC without an offset), or an age before ``now``.

    :raises typer.BadParameter: it is none of these.
    """
    text = given.strip()
    try:
        if age := _AGE.fullmatch(text):
            return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{option} {given!r} is no date like 2026-11-01, no time like 2026-11-01T09:00, and no"
            " age like 90m, 24h, 7d or 4w"
        ) from None


def _text(question: ReportQuestion, report: UsageReport, form: _Form) -> str:
    if form.as_json:
        return _json(question, report)
    named = question.by == "assistant"
    head = [question.by, *(["name"] if named else []), *_FIGURES]
    rows = [_cells(row, named=named) for row in report.rows]
    if form.as_csv:
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([head, *rows])
        return out.getvalue()
    if not rows:
        return "no model was called in this time\n"
    total = ["total", *([""] if named else []), *_figures(report.total).values()]
    return _table([head, *rows, total], texts=2 if named else 1)


def _cells(row: ReportRow, *, named: bool) -> list[Any]:
    return [row.key, *([row.name or ""] if named else []), *_figures(row.used).values()]


def _figures(used: ModelUsage) -> dict[str, int]:
    tokens = used.tokens
    figures = (used.calls, tokens.input, tokens.output, tokens.cached, tokens.reasoning)
    return dict(zip(_FIGURES, figures, strict=True))


def _json(question: ReportQuestion, report: UsageReport) -> str:
    document = {
        "by": question.by,
        "since": question.since.isoformat() if question.since else None,
        "until": question.until.isoformat() if question.until else None,
        "tenant": question.tenant,
        "rows": [
            {
                question.by: row.key,
                **({"name": row.name} if question.by == "assistant" else {}),
                **_figures(row.used),
            }
            for row in report.rows
        ],
        "groups": report.groups,
        "total": _figures(report.total),
    }
    return json.dumps(document, indent=2) + "\n"


def _table(rows: list[list[Any]], *, texts: int) -> str:
    """Aligned columns; the first ``texts`` of them are texts, the others numbers."""
    shown = [
        [printable(cell) if isinstance(cell, str) else f"{cell:,}" for cell in row] for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if number < texts else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in shown
    ]
    return "".join(f"{line}\n" for line in lines)
