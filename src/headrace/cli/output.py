"""Output of commands: what several print, and what to do when nothing takes it any more."""

import errno
import os
import sys

import typer

from headrace.db.vector_tables import Prepared
from headrace.errors import StartupRefusal
from headrace.observability.masking import mask_text
from headrace.server.own_secrets import mask_own, masked_refusal

#: No space, the quota is used, the file is as large as it may be, or the device failed.
_UNWRITTEN = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def complain(what: object) -> None:
    """Print why a command does not go on, to stderr, without secrets of this machine."""
    mask_own()
    shown = masked_refusal(what) if isinstance(what, StartupRefusal) else mask_text(str(what))
    typer.echo(str(shown), err=True)


def is_unwritten(error: OSError) -> bool:
    """Whether the error is one of writing output; errors of opened files name their file."""
    return error.errno in _UNWRITTEN and error.filename is None


def unwritten(error: OSError) -> str:
    """The sentence for stderr."""
    return f"The output could not be written: {error.strerror}."


def drop_output() -> None:
    """Lose what is left: Python flushes stdout once more when it ends, and would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def index_line(prepared: Prepared) -> str:
    """The line of a command that has prepared the store's semantic index."""
    how = "adopted" if prepared.adopted else "made" if prepared.made else "there already"
    left = prepared.unindexed
    more = f"; {left} items without a vector, `headrace store reindex` embeds them" if left else ""
    return f"store.index: tables {how}{more}"
