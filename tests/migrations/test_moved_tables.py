"""Tables that docs/own-schema.md moves: all of them, with their functions."""

import re

import psycopg

from headrace.db.migrate import upgrade
from tests.support.database import database_settings
from tests.support.sources import page

_LEFT = """
SELECT relname FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S')
UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
"""

_NAMES_PUBLIC = """
SELECT proname FROM pg_proc WHERE pronamespace = 'headrace'::regnamespace AND prosrc ~ 'public'
"""


def test_the_page_moves_all_tables_and_functions(empty_database_url):
    found = re.search(r"```sql\n(BEGIN;\n.*?COMMIT;\n)```", page("own-schema.md"), re.DOTALL)
    assert found is not None
    upgrade(database_settings(empty_database_url))
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(found[1].encode())
        upgrade(database_settings(empty_database_url, schema="headrace"))
        assert connection.execute(_LEFT).fetchall() == []
        assert connection.execute(_NAMES_PUBLIC).fetchall() == []
