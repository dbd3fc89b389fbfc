"""docs/symptoms.md: its queries parse, ask for what exists, and the database answers them."""

import re

import pytest

from tests.deploy.expressions import selectors
from tests.docs.test_metrics import documented_metrics
from tests.support.sources import page
from tests.support.symptoms import Query, queries, symptoms

#: Labels of all series: of buckets, and those that Prometheus adds.
OF_PODS = frozenset({"le", "pod", "instance"})


def name(query: Query) -> str:
    return query.symptom.lower().replace(" ", "-")


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
    read = selectors(query.text)
    assert read
    labels_of_all: set[str] = set(OF_PODS)
    for one in read:
        family = one.metric if one.metric in known else one.family
        assert family in known, one.metric
        _, labels = known[family]
        assert one.labels <= labels | OF_PODS, one.metric
        labels_of_all |= labels
    grouped = {
        label.strip()
        for labels in re.findall(r"\bby \(([^)]*)\)", query.text)
        for label in labels.split(",")
    }
    assert grouped <= labels_of_all


@pytest.mark.parametrize("query", queries("sql"), ids=name)
def test_the_database_answers_every_statement(query: Query, database) -> None:
    found = database.execute(query.text)
    assert found.description
    found.fetchall()
