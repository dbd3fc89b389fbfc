"""The default executor of an event loop: a thread pool that knows the run of each job.

LangGraph calls sync nodes and tools in the loop's default executor. asyncio's executor has few
threads and knows no runs: a few runs with sleeping nodes fill it, and nobody can tell that their
threads go on after the runs have ended. In this pool

- each run gets its first thread at once. A run gets more threads only while one thread stays free
  for each place without a working thread;
- jobs for no run (name look-ups, large flushes, jobs of an app) have threads of their own;
- a :class:`Work` knows how many threads work for its run.

The threads are daemons, so a thread that never returns does not delay the end of the process.
"""

import asyncio
import gc
import queue
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

#: Threads for jobs of no run, in addition to those for runs.
_FOR_OTHERS = 32
#: A thread without work ends after this time.
_IDLE_SECONDS = 30.0
#: Names of the executors that event loops create by themselves.
_MADE_BY_LOOPS = ("asyncio", "uvloop")


class Work:
    """The jobs of one run. Use it from any thread."""

    __slots__ = ("_busy", "_guard", "_on_idle", "_waiting", "is_cut")

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._busy = 0
        self._waiting: set[Future[Any]] = set()
        self._on_idle: Callable[[], None] | None = None
        #: Whether the run was cut off. Then nobody waits for its threads.
        self.is_cut = False

    @property
    def busy(self) -> int:
        """The number of threads that work for the run now."""
        return self._busy

    def entered(self) -> "_EnteredBlock":
        """Within the block, count all jobs that it and its tasks give to the executor."""
        return _EnteredBlock(self)

    def cut(self) -> None:
        """The run was cut off: cancel the jobs that no thread has begun."""
        self.is_cut = True
        with self._guard:
            waiting = list(self._waiting)
        for future in waiting:
            future.cancel()

    def when_idle(self, then: Callable[[], None]) -> bool:
        """Call ``then`` once, from a thread of the pool, when the run has no more jobs.

        :returns: False if it has none now; then ``then`` is not called.
        """
        with self._guard:
            if self._is_idle():
                return False
            self._on_idle = then
            return True

    def _is_idle(self) -> bool:
        return not self._busy and not self._waiting

    def _given(self, future: Future[Any]) -> None:
        with self._guard:
            self._waiting.add(future)

    def _begun(self, future: Future[Any]) -> None:
        with self._guard:
            self._waiting.discard(future)
            self._busy += 1

    def _left(self, future: Future[Any], *, begun: bool) -> None:
        with self._guard:
            self._waiting.discard(future)
            self._busy -= begun
            then = self._on_idle if self._is_idle() else None
            if then is not None:
                self._on_idle = None
        if then is not None:
            then()


_work: ContextVar[Work | None] = ContextVar("headrace_work", default=None)


class _EnteredBlock:
    __slots__ = ("_before", "_work")

    def __init__(self, work: Work) -> None:
        self._work = work

    def __enter__(self) -> None:
        self._before = _work.set(self._work)

    def __exit__(self, *_: object) -> None:
        _work.reset(self._before)


@dataclass(frozen=True, slots=True)
class ThreadFigures:
    """How many threads work for runs, and how many may."""

    busy: int = 0
    most: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    work: Work | None
    future: Future[Any]
    call: Callable[[], Any]

    def run(self) -> None:
        try:
            result = self.call()
        except BaseException as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class ThreadPool(ThreadPoolExecutor):
    """A ThreadPoolExecutor, because ``loop.set_default_executor`` accepts nothing else.

    :param max_threads: threads for runs.
    :param places: so many runs at once are sure of a thread each, if ``max_threads`` allows.
    """

    def __init__(self, max_threads: int, *, places: int) -> None:
        super().__init__(max_threads, thread_name_prefix="headrace-jobs")
        self._most = max_threads
        self._places = min(places, max_threads)
        self._guard = threading.Condition()
        #: Ordered, and quick to remove from: a run may have thousands of jobs.
        self._jobs_by_work: dict[Work | None, OrderedDict[_Job, None]] = {}
        self._busy_by_work: Counter[Work | None] = Counter()
        #: Threads that work for runs.
        self._busy = 0
        self._resting: list[queue.SimpleQueue[_Job]] = []
        self._started = 0
        self._closed = False

    def figures(self) -> ThreadFigures:
        return ThreadFigures(self._busy, self._most)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """:raises RuntimeError: it is shut down."""
        work, future = _work.get(), Future[T]()
        job = _Job(work, future, lambda: fn(*args, **kwargs))
        with self._guard:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._jobs_by_work.setdefault(work, OrderedDict())[job] = None
            if work is not None:
                work._given(future)
            next_one = self._next()
            if next_one is not None:
                self._give(next_one)
        future.add_done_callback(partial(self._forget, job))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As for any executor, but it does not wait for the threads of a run that was cut off."""
        with self._guard:
            self._closed = True
            waiting = [job.future for jobs in self._jobs_by_work.values() for job in jobs]
        if cancel_futures:
            for future in waiting:
                future.cancel()
        if wait:
            with self._guard:
                self._guard.wait_for(lambda: not self._is_waited_for())

    def _forget(self, job: _Job, future: Future[Any]) -> None:
        if not future.cancelled():
            return
        with self._guard:
            jobs = self._jobs_by_work.get(job.work)
            if jobs is not None and job in jobs:
                del jobs[job]
                if not jobs:
                    del self._jobs_by_work[job.work]
            self._guard.notify_all()
        if job.work is not None:
            job.work._left(future, begun=False)

    def _is_waited_for(self) -> bool:
        return any(
            work is None or not work.is_cut for work in {*self._busy_by_work, *self._jobs_by_work}
        )

    def _next(self) -> _Job | None:
        """Take the next job that may begin. Runs take turns."""
        for work in list(self._jobs_by_work):
            if not self._may_begin(work):
                continue
            jobs = self._jobs_by_work.pop(work)
            while jobs:
                job, _ = jobs.popitem(last=False)
                if job.future.set_running_or_notify_cancel():
                    if jobs:
                        # The other runs come first now.
                        self._jobs_by_work[work] = jobs
                    self._count(job)
                    return job
        return None

    def _may_begin(self, work: Work | None) -> bool:
        if work is None:
            return self._busy_by_work[None] < _FOR_OTHERS
        free = self._most - self._busy
        if work not in self._busy_by_work:
            return free > 0
        have = len(self._busy_by_work) - (None in self._busy_by_work)
        return free > max(0, self._places - have)

    def _count(self, job: _Job) -> None:
        self._busy_by_work[job.work] += 1
        if job.work is not None:
            self._busy += 1
            job.work._begun(job.future)

    def _count_off(self, job: _Job) -> None:
        self._busy_by_work[job.work] -= 1
        if not self._busy_by_work[job.work]:
            del self._busy_by_work[job.work]
        if job.work is not None:
            self._busy -= 1
            job.work._left(job.future, begun=True)

    def _give(self, job: _Job) -> None:
        if self._resting:
            self._resting.pop().put(job)
            return
        self._started += 1
        name = f"headrace-jobs-{self._started}"
        thread = threading.Thread(target=self._live, args=(job,), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # The system has no more threads: only this job fails.
            self._count_off(job)
            job.future.set_exception(error)

    def _live(self, first: _Job) -> None:
        job: _Job | None = first
        inbox: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        del first
        while job is not None:
            job.run()
            with self._guard:
                self._count_off(job)
                job = self._next()
                if job is None:
                    self._resting.append(inbox)
                self._guard.notify_all()
            if job is None:
                job = self._rest(inbox)

    def _rest(self, inbox: "queue.SimpleQueue[_Job]") -> _Job | None:
        """Wait for a job; None if none came within ``_IDLE_SECONDS``."""
        try:
            return inbox.get(timeout=_IDLE_SECONDS)
        except queue.Empty:
            with self._guard:
                if inbox in self._resting:
                    self._resting.remove(inbox)
                    return None
        return inbox.get()


def use_thread_pool(max_threads: int, *, places: int) -> ThreadPool | None:
    """Make a new pool the default executor of the running loop. The loop shuts it down at its end.

    :returns: None if the app has set an executor of its own; that one stays.
    """
    loop = asyncio.get_running_loop()
    # No loop has a public way to read its executor; uvloop has no attribute at all.
    for one in gc.get_referents(loop, getattr(loop, "__dict__", None)):
        if isinstance(one, ThreadPoolExecutor) and not isinstance(one, ThreadPool):
            name = str(getattr(one, "_thread_name_prefix", ""))
            if not name.startswith(_MADE_BY_LOOPS):
                return None
    pool = ThreadPool(max_threads, places=places)
    loop.set_default_executor(pool)
    return pool


def in_a_thread(call: Callable[[], T]) -> "asyncio.Future[T]":
    """Call a function in the running loop's default executor. The job counts for no run."""
    token = _work.set(None)
    try:
        return asyncio.get_running_loop().run_in_executor(None, call)
    finally:
        _work.reset(token)
