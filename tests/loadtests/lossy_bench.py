"""The bench with contenders that a bench must not pass, beside a right one; started with ``-m``."""

import itertools
import os
import sys
from contextlib import asynccontextmanager

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from loadtests.bench.__main__ import main
from loadtests.bench.contenders import CONTENDERS, Contender, Entrant, nothing_around


class Forgetful(AsyncPostgresSaver):
    """Says of every 25th checkpoint that it is stored, and stores it not."""

    _numbers = itertools.count(1)

    async def aput(self, config, checkpoint, metadata, new_versions):
        if next(self._numbers) % 25:
            return await super().aput(config, checkpoint, metadata, new_versions)
        config = {**config["configurable"], "checkpoint_id": checkpoint["id"]}
        return {"configurable": config}


class Careless(AsyncPostgresSaver):
    """The same with the writes of tasks."""

    _numbers = itertools.count(1)

    async def aput_writes(self, config, writes, task_id, task_path=""):
        if next(self._numbers) % 25:
            await super().aput_writes(config, writes, task_id, task_path)


class Hollow(AsyncPostgresSaver):
    """Stores every checkpoint, and of the messages nothing."""

    def _dump_blobs(self, thread_id, checkpoint_ns, values, versions):
        kept = {name: [] if name == "messages" else value for name, value in values.items()}
        return super()._dump_blobs(thread_id, checkpoint_ns, kept, versions)


def entrant(saver_class: type[AsyncPostgresSaver]) -> Entrant:
    @asynccontextmanager
    async def opened(url):
        async with saver_class.from_conn_string(url) as saver:
            yield Contender(saver, nothing_around)

    return Entrant(opened)


if __name__ == "__main__":
    kinds = {one.__name__.lower(): entrant(one) for one in (Forgetful, Careless, Hollow)}
    sys.exit(main(os.environ, {"upstream_pool": CONTENDERS["upstream_pool"], **kinds}))
