"""A user's own Alembic, set up as docs/own-schema.md says, wants to drop nothing of ours."""

import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from headrace.db.migrate import upgrade
from tests.migrations.commands import environment
from tests.support.database import database_settings
from tests.support.sources import ROOT, page

_MODELS = """
from sqlalchemy import Column, Integer, MetaData, Table

metadata = MetaData()
{tables}
"""

_ENV = """
import os

import models
from alembic import context
from sqlalchemy import create_engine, pool

target_metadata = models.metadata
url = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://")
engine = create_engine(url, poolclass=pool.NullPool)

with engine.connect() as connection:
{snippet}
    with context.begin_transaction():
        context.run_migrations()
"""

_SCRIPT = '''"""${message}"""
from alembic import op
import sqlalchemy as sa
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}

def upgrade():
    ${upgrades if upgrades else "pass"}

def downgrade():
    ${downgrades if downgrades else "pass"}
'''


def snippet() -> str:
    """What the page tells the user to write, indented for the file above."""
    found = re.search(r"```python title=env.py\n(.*?)```", page("own-schema.md"), re.DOTALL)
    assert found is not None
    return "".join(f"    {line}\n" for line in found[1].splitlines())


def user_project(folder: Path, *tables: str) -> Path:
    (folder / "versions").mkdir(parents=True)
    declared = "\n".join(
        f'Table("{name}", metadata, Column("id", Integer, primary_key=True))' for name in tables
    )
    (folder / "models.py").write_text(_MODELS.format(tables=declared))
    (folder / "env.py").write_text(_ENV.format(snippet=snippet()))
    (folder / "script.py.mako").write_text(_SCRIPT)
    (folder / "alembic.ini").write_text(
        "[alembic]\nscript_location = %(here)s\nprepend_sys_path = %(here)s\npath_separator = os\n"
    )
    return folder


def alembic(folder: Path, *arguments: str, url: str, **changes: str) -> str:
    answer = subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        env=environment(url, **changes),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout + answer.stderr


@pytest.mark.parametrize("schema", ["", "headrace"])
def test_autogenerate_sees_only_the_users_tables(schema, empty_database_url, tmp_path):
    upgrade(database_settings(empty_database_url, schema=schema))
    # With a schema of headrace's own the application may have its names.
    tables = ("users", "threads", "store") if schema else ("users",)
    folder = user_project(tmp_path / "alembic", *tables)
    own = {"HEADRACE_DATABASE__SCHEMA": schema} if schema else {}
    alembic(folder, "revision", "--autogenerate", "-m", "one", url=empty_database_url, **own)
    (made,) = (folder / "versions").glob("*.py")
    text = made.read_text()
    assert "drop_" not in text.split("def downgrade")[0], text
    assert re.findall(r"create_table\('(\w+)'", text) == sorted(tables)
    alembic(folder, "upgrade", "head", url=empty_database_url, **own)
    assert "No new upgrade operations" in alembic(folder, "check", url=empty_database_url, **own)
    with psycopg.connect(empty_database_url) as connection:
        versions = connection.execute("SELECT count(*) FROM alembic_version").fetchone()
    assert versions == (1,)


def test_the_snippet_stands_in_one_place():
    assert snippet().count("include_name=include_name") == 1
    pages = {
        path.name for path in (ROOT / "docs").glob("*.md") if "target_metadata" in path.read_text()
    }
    assert pages == {"own-schema.md"}
    assert "(own-schema.md#your-own-alembic)" in page("library.md")
    assert "\n## Your own Alembic\n" in page("own-schema.md")
