"""docs/symptoms.md: its queries parse, ask for what exists, and the database answers them."""

import re

import promql_parser
import pytest

from tests.docs.test_metrics import documented_metrics
from tests.support.sources import page
from tests.support.symptoms import Query, queries, symptoms


def name(query: Query) -> str:
    return query.symptom.lower().replace(" ", "-")


def metrics_of(promql: str) -> dict[str, set[str]]:
    """Metric to the labels that the expression chooses it by.

    :raises ValueError: it does not parse.
    """
    found: dict[str, set[str]] = {}

    def note(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            labels = found.setdefault(str(node.name), set())
            labels |= {matcher.name for matcher in node.matchers.matchers}

    promql_parser.walk(promql_parser.parse(promql), note)
    return found


def test_every_symptom_is_in_the_table_and_has_its_queries() -> None:
    listed = re.findall(r"^\| [^|]+ \| \[(.+)\]\(#", page("symptoms.md"), re.MULTILINE)
    assert listed == list(symptoms())
    for language in ("promql", "jq"):
        assert {query.symptom for query in queries(language)} == set(symptoms()), language
    for symptom, section in symptoms().items():
        assert section.rstrip().splitlines()[-1] != "```", f"{symptom}: say what the answer means"


@pytest.mark.parametrize("query", queries("promql"), ids=name)
def test_every_expression_asks_for_metrics_and_labels_that_exist(query: Query) -> None:
    known = documented_metrics()
    found = metrics_of(query.text)
    assert found
    for metric, labels in found.items():
        family = metric if metric in known else re.sub(r"_(bucket|sum|count)$", "", metric)
        assert family in known, metric
        assert labels <= known[family][1] | {"le", "pod", "instance"}, metric
    grouped = {
        label.strip()
        for labels in re.findall(r"\bby \(([^)]*)\)", query.text)
        for label in labels.split(",")
    }
    of_all = set().union(*(known[name][1] for name in known if name in query.text))
    of_all |= {label for name in found for label in known[_family(name)][1]}
    assert grouped <= of_all | {"le", "pod", "instance"}


def _family(metric: str) -> str:
    known = documented_metrics()
    return metric if metric in known else re.sub(r"_(bucket|sum|count)$", "", metric)


@pytest.mark.parametrize("query", queries("sql"), ids=name)
def test_the_database_answers_every_statement(query: Query, database) -> None:
    found = database.execute(query.text)
    assert found.description
    found.fetchall()
