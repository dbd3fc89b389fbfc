"""``python -m tests.clients.side_by_side OFFICIAL_URL OUR_URL [CHAPTER ...]``: differences."""

import asyncio
import sys

from tests.clients.side_by_side.comparison import compare

if __name__ == "__main__":
    report = asyncio.run(compare(sys.argv[1], sys.argv[2], sys.argv[3:]))
    print(report.text())
    sys.exit(bool(report.unlisted))
