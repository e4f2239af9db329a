"""Workers elsewhere, which may die: a thread for each hands it tasks and waits for their outcomes."""

import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from threading import Lock
from typing import Any

from fedmpq.engine.hardware import keep_memory
from fedmpq.errors import UserError
from fedmpq.federated.setup import Setup
from fedmpq.federated.tasks import Failure, Task, TaskFailed

MAX_ATTEMPTS = 3
"""A task whose worker dies is tried so often before it counts as failed."""
ONE_AT_A_TIME = Lock()
"""Held while workers are started, buried and stopped: the books that are kept of them are not made for threads."""


class Died(Exception):
    """A worker is gone, and its task with it; the text is the cause."""


class NotReady(UserError):
    """A worker is gone before it could take a task: so would be the next."""

    def __str__(self) -> str:
        return f"a worker ended before it was ready: {self.args[0]}"


def new_worker(setup: Setup) -> Any:
    """A `Worker` in a process of its own."""
    from fedmpq.federated.worker import Worker

    keep_memory()
    return Worker(setup)


def carry_out(run: Callable[..., Any], *arguments: Any) -> Any:
    """What `run` returns, a `Failure`, or the error that ends the run."""
    try:
        return run(*arguments)
    except TaskFailed as error:
        return Failure(str(error))
    except UserError as error:
        return error
    except Exception:
        return RuntimeError(f"a worker failed:\n{traceback.format_exc()}")


def checked(outcome: Any) -> Any:
    """`outcome`, unless it is an error: that is raised."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


class Carrier:
    """What takes tasks in a process of its own: a worker, or the error in building it, which ends the run."""

    def __init__(self, build: Callable[..., Any], *arguments: Any):
        self.worker = carry_out(build, *arguments)

    def run(self, task: Task) -> Any:
        """See `carry_out`."""
        return self.worker if isinstance(self.worker, Exception) else carry_out(self.worker.run, task)


class Pool(AbstractContextManager):
    """Workers that each carry out one task at a time; the costliest task first.

    A worker that dies is replaced and its task tried again, at most twice.
    """

    def __init__(self, start: Callable[[], Any], workers: int):
        """Start so many workers: `run(task)` of one returns as a `Carrier` does, or raises; `stop()` lets it go."""
        self.start, self.closed = start, False
        self.workers = [start() for _ in range(workers)]
        self.idle = list(self.workers)
        self.threads = ThreadPoolExecutor(workers)

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
        """See `Executor.run`."""
        ordered = sorted(tasks, key=lambda task: -task.cost)
        futures = {self.threads.submit(self._carry_out, task): task for task in ordered}
        for future in as_completed(futures):
            yield futures[future], future.result()

    def _carry_out(self, task: Task) -> Any:
        for _ in range(MAX_ATTEMPTS):
            worker = self.idle.pop()
            try:
                return checked(worker.run(task))
            except Died as error:
                worker, cause = self._replaced(worker), error
            finally:
                self.idle.append(worker)
        return Failure(f"its worker died {MAX_ATTEMPTS} times, the last time: {cause}")

    def _replaced(self, worker: Any) -> Any:
        with ONE_AT_A_TIME:
            if self.closed:
                return worker
            self.workers.remove(worker)
            self.workers.append(self.start())
            return self.workers[-1]

    def __exit__(self, *error: object) -> None:
        self.threads.shutdown(wait=False, cancel_futures=True)
        with ONE_AT_A_TIME:
            self.closed = True
            for worker in self.workers:
                worker.stop()
        self.threads.shutdown()
