"""The last command of the example's README: the chart takes its image."""

import shlex
import subprocess
from pathlib import Path

from tests.support.sources import ROOT

EXAMPLE = ROOT / "examples" / "own_graph"


def test_the_chart_renders_with_the_examples_image(each_helm: Path) -> None:
    lines = (EXAMPLE / "README.md").read_text().splitlines()
    (line,) = (line.strip() for line in lines if line.startswith("    helm template "))
    _, *arguments = shlex.split(line)
    done = subprocess.run([each_helm, *arguments], cwd=EXAMPLE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("image: titles:v1\n") + done.stdout.count('image: "titles:v1"\n') >= 2
