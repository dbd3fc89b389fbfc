"""The measurement of searches by meaning, in its short form."""

import json

from loadtests import semantic


def test_the_short_form_finds_what_is_right(postgres, tmp_path):
    code = semantic.main(
        [
            *("--url", postgres.dsn()),
            *("--items", "3000", "--dims", "16", "--clusters", "40", "--queries", "20"),
            *("--results", str(tmp_path)),
        ]
    )
    assert code == 0
    told = json.loads((tmp_path / "semantic.json").read_text())
    kinds = told["kinds"]
    assert set(kinds) == {"flat", "hnsw", "ivfflat"}
    assert kinds["flat"]["whole store"] == {
        **kinds["flat"]["whole store"],
        "recall_at_10": 1.0,
        "plans": {"exact": 20},
    }
    assert kinds["hnsw"]["whole store"]["plans"] == {"index": 20}
    assert kinds["hnsw"]["whole store"]["recall_at_10"] > 0.9
    # A small namespace is compared whole.
    for kind in kinds.values():
        assert kind["a thousandth of it"]["plans"] == {"narrow": 20}
        assert kind["a thousandth of it"]["recall_at_10"] == 1.0
