"""Writes the SBOM from what cyclonedx-py makes of the lock: ``make sbom``.

It leaves out what repeats the lock (lines, hashes) and addresses of an index: who installs decides
where packages come from.
"""

import json
import sys
from pathlib import Path

_LEFT_OUT = ("description", "externalReferences")


def main(made: str, target: Path) -> None:
    """
    :param made: the document of cyclonedx-py.
    """
    document = json.loads(made)
    tools = document["metadata"]["tools"]["components"]
    for component in [*document["components"], *tools]:
        for name in _LEFT_OUT:
            component.pop(name, None)
    target.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.stdin.read(), Path(sys.argv[1]))
