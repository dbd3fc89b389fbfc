"""The dashboards as files. The chart has a copy: helm reads only what lies within it."""

import json
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.source.boards import Board
from deploy.grafana.source.checkpoints import CHECKPOINTS
from deploy.grafana.source.crons_and_webhooks import CRONS_AND_WEBHOOKS
from deploy.grafana.source.one_pod import ONE_POD
from deploy.grafana.source.overview import OVERVIEW
from deploy.grafana.source.pool_and_postgres import POOL_AND_POSTGRES
from deploy.grafana.source.runs_and_queue import RUNS_AND_QUEUE
from deploy.grafana.source.streams import STREAMS

BOARDS: Final[tuple[Board, ...]] = (
    OVERVIEW,
    POOL_AND_POSTGRES,
    CHECKPOINTS,
    RUNS_AND_QUEUE,
    STREAMS,
    CRONS_AND_WEBHOOKS,
    ONE_POD,
)

_DEPLOY = Path(__file__).parents[2]
FOLDERS: Final = (
    _DEPLOY / "grafana" / "dashboards",
    _DEPLOY / "helm" / "headrace" / "files" / "dashboards",
)


def texts() -> dict[str, str]:
    """File name to JSON."""
    return {f"{board.name}.json": text(board) for board in BOARDS}


def text(board: Board) -> str:
    return json.dumps(board.build(), cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"


def write() -> None:
    """Write all anew, and remove what is no dashboard any more."""
    written = texts()
    for folder in FOLDERS:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.json"):
            if path.name not in written:
                path.unlink()
        for name, content in written.items():
            (folder / name).write_text(content, encoding="utf-8")
