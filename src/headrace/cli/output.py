"""What a command does when nothing takes its output any more, such as a full disk."""

import errno
import os
import sys

#: No space, the quota is used, the file is as large as it may be, or the device failed.
_UNWRITTEN = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def is_unwritten(error: OSError) -> bool:
    """Whether the error is one of writing output; errors of opened files name their file."""
    return error.errno in _UNWRITTEN and error.filename is None


def unwritten(error: OSError) -> str:
    """The sentence for stderr."""
    return f"The output could not be written: {error.strerror}."


def drop_output() -> None:
    """Lose what is left: Python flushes stdout once more when it ends, and would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
