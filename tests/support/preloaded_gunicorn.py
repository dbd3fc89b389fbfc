"""gunicorn with headrace's modules imported before it forks: two processes start in half the time.

``headrace serve`` imports after the fork. That makes no other server process: nothing happens at
import (tests/architecture).
"""

from gunicorn.app.wsgiapp import run

import headrace.server.app
import headrace.server.process  # noqa: F401 - imported to be there

if __name__ == "__main__":
    run()
