"""What the library face is to a type checker, in its strictest form."""

import re
import subprocess
import sys
from pathlib import Path

SAMPLE = Path(__file__).with_name("sample_app.py")
ROOT = SAMPLE.parents[2]


def test_an_app_passes_strict_and_its_mistakes_do_not(tmp_path):
    (tmp_path / "app.py").write_text(SAMPLE.read_text())
    # With no configuration of ours: as somebody who has installed headrace.
    (tmp_path / "mypy.ini").write_text("[mypy]\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache")]
    answer = subprocess.run(
        [*command, "--config-file=mypy.ini", "--no-error-summary", "app.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    said = re.findall(r"^app\.py:(\d+): error: .*\[([\w-]+)\]$", answer.stdout, re.MULTILINE)
    wanted = [
        (str(number), match[1])
        for number, line in enumerate(SAMPLE.read_text().splitlines(), start=1)
        if (match := re.search(r"# error: ([\w-]+)$", line))
    ]
    assert len(wanted) == 7
    assert said == wanted, answer.stdout + answer.stderr
