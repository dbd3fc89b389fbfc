"""``headrace db upgrade`` with an index in the manifest, and ``headrace store reindex``."""

import json
from pathlib import Path

from tests.migrations.commands import run_headrace
from tests.support import words


def write_manifest(folder: Path, **index: object) -> None:
    text = Path(words.__file__).read_text()
    (folder / "words.py").write_text(text)
    store = {
        "index": {"dims": words.DIMS, "embed": "./words.py:embed", "fields": ["text"], **index}
    }
    manifest = {"graphs": {"agent": "./graph.py:builder"}, "store": store}
    (folder / "langgraph.json").write_text(json.dumps(manifest))


def test_a_change_of_the_model_is_refused_with_the_command_that_cures_it(
    tmp_path, database_url, database
):
    def run(*arguments: str):
        return run_headrace(*arguments, database_url=database_url, folder=tmp_path)

    database.execute(
        "INSERT INTO store (prefix, key, value) VALUES ('a', 'k', '{\"text\": \"tea\"}')"
    )
    write_manifest(tmp_path)
    upgraded = run("db", "upgrade")
    assert upgraded.stdout.splitlines()[1:] == [
        "store.index: tables made; 1 items without a vector, `headrace store reindex` embeds them"
    ]
    done = run("store", "reindex")
    assert (done.returncode, done.stdout) == (0, "done: 1 items, 1 vectors completed\n"), (
        done.stderr
    )
    assert run("db", "upgrade").stdout.splitlines()[1:] == ["store.index: tables there already"]

    write_manifest(tmp_path, dims=2 * words.DIMS, embed="./words.py:wider")
    refused = run("db", "upgrade")
    assert refused.returncode == 1
    assert refused.stderr.startswith("HR333 store.index: langgraph.json asks for vector(128)")
    done = run("store", "reindex", "--batch", "10")
    assert (done.returncode, done.stdout) == (0, "done: 1 items, 1 vectors made anew\n"), (
        done.stderr
    )
    kept = database.execute("SELECT field_name, vector_dims(embedding) FROM store_vectors")
    assert kept.fetchall() == [("text", 128)]

    write_manifest(tmp_path, dims=3)
    failed = run("store", "reindex")
    assert failed.returncode == 1
    assert "HR334" in failed.stderr
    assert "a vector has 64 numbers, and store.index.dims is 3" in failed.stderr


def test_without_an_index_there_is_nothing_to_do(tmp_path, database_url):
    (tmp_path / "langgraph.json").write_text('{"graphs": {"agent": "./graph.py:builder"}}')
    refused = run_headrace("store", "reindex", database_url=database_url, folder=tmp_path)
    assert (refused.returncode, "HR104" in refused.stderr) == (1, True)
    assert (
        "store.index"
        not in run_headrace("db", "upgrade", database_url=database_url, folder=tmp_path).stdout
    )
