"""``python -m tests.deploy.pictures`` draws each dashboard from what a Prometheus has seen."""

import argparse
import json
import time
from pathlib import Path

from tests.deploy.expressions import DASHBOARDS
from tests.deploy.pictures.answers import Answers, Period, Prometheus
from tests.deploy.pictures.page import picture
from tests.support.sources import ROOT

ONE_POD = "one-pod"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.deploy.pictures", description=__doc__)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", help="its address")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "dashboards")
    parser.add_argument("--minutes", type=float, default=30.0, help="how much is shown")
    parser.add_argument("--end", type=float, help="unix seconds; default: now")
    parser.add_argument("--scrape-seconds", type=float, default=15.0, help="as it scrapes")
    parser.add_argument("--instance", default="", help="the one pod; default: the first")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    end = given.end or time.time()
    period = Period(end - 60 * given.minutes, end)
    prometheus = Prometheus(given.prometheus.rstrip("/"), given.scrape_seconds)
    one = given.instance or prometheus.instances()[0]
    given.out.mkdir(parents=True, exist_ok=True)
    for path in sorted(DASHBOARDS.glob("*.json")):
        answers = Answers(prometheus, period, one if path.stem == ONE_POD else "")
        svg = picture(json.loads(path.read_text()), answers)
        (given.out / f"{path.stem}.svg").write_text(svg, encoding="utf-8")
        print(f"{path.stem}.svg: {len(svg) // 1024} KiB", *answers.silent, sep="\n    no data: ")


if __name__ == "__main__":
    main()
