"""Saved files are noticed; what is not the user's own is not looked at."""

from headrace.cli.watch import SavedFiles
from tests.support.waiting import eventually


async def test_saved_new_and_removed_files_are_noticed_once(tmp_path):
    for name in ("graph.py", "gone.py", "sub/part.py", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    files = SavedFiles(tmp_path)
    (tmp_path / "graph.py").write_text("changed")
    (tmp_path / "gone.py").unlink()
    (tmp_path / "sub" / "new.py").write_text("")
    (tmp_path / "notes.txt").write_text("changed")
    (tmp_path / "langgraph.json").write_text("{}")
    seen: list[str] = []

    def noticed() -> bool:
        seen.extend(str(path.relative_to(tmp_path)) for path in files.changed())
        return bool(seen)

    await eventually(noticed)
    assert seen == ["gone.py", "graph.py", "langgraph.json", "sub/new.py"]
    assert files.changed() == []


async def test_environments_and_hidden_folders_are_not_looked_at(tmp_path):
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    files = SavedFiles(tmp_path)
    for folder in ("env", ".headrace", "__pycache__", "node_modules"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "code.py").write_text("")
    (tmp_path / "last.py").write_text("")
    seen: list[str] = []

    def noticed() -> bool:
        seen.extend(path.name for path in files.changed())
        return bool(seen)

    await eventually(noticed)
    assert seen == ["last.py"]
