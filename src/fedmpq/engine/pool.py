"""A pool of workers that may die, whatever they run on."""

import traceback
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from fedmpq.engine.hardware import keep_memory
from fedmpq.errors import UserError
from fedmpq.federated.setup import Setup
from fedmpq.federated.tasks import Failure, Task, TaskFailed

MAX_ATTEMPTS = 3
"""A task whose worker dies is tried so often before it counts as failed."""


@dataclass(frozen=True)
class Died:
    """The worker is gone, and its task with it."""

    cause: str


def new_worker(setup: Setup) -> Any:
    """A `Worker` in a process of its own."""
    from fedmpq.federated.worker import Worker

    keep_memory()
    return Worker(setup)


def carrier(build: Callable[[Any], Any], argument: Any) -> Callable[[Task], Any]:
    """What carries out tasks with the worker that `build` makes of `argument`, or says of each why there is none."""
    worker = carry_out(build, argument)
    return (lambda task: worker) if isinstance(worker, Exception) else lambda task: carry_out(worker.run, task)


def carry_out(run: Callable[[Any], Any], argument: Any) -> Any:
    """What `run` makes of `argument`: its result, a `Failure`, or the error that ends the run."""
    try:
        return run(argument)
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


def not_ready(cause: str) -> UserError:
    """The error that ends a run whose worker is gone before it took a task: so would be the next."""
    return UserError(f"a worker ended before it was ready: {cause}")


class Pool(ABC):
    """Workers that each carry out one task at a time; the costliest task first.

    A worker that dies is replaced and its task tried again, at most twice.
    """

    def __init__(self, setup: Setup, workers: int):
        self.setup = setup
        self.idle = [self._start() for _ in range(workers)]
        self.busy: dict[Hashable, tuple[Any, Task]] = {}

    @abstractmethod
    def _start(self) -> Any:
        """Start a worker."""

    @abstractmethod
    def _send(self, worker: Any, task: Task) -> Hashable:
        """Hand `task` to `worker`; returns the key under which its outcome will come."""

    @abstractmethod
    def _completed(self) -> Iterator[tuple[Hashable, Any]]:
        """Wait for a busy worker; yield keys with outcomes as of `carry_out`, and `Died`."""

    @abstractmethod
    def _stop(self, worker: Any) -> None:
        """Let `worker` go."""

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
        """See `Executor.run`."""
        pending = deque(sorted(tasks, key=lambda task: -task.cost))
        deaths: Counter[int] = Counter()
        while pending or self.busy:
            while pending and self.idle:
                worker, task = self.idle.pop(), pending.popleft()
                self.busy[self._send(worker, task)] = worker, task
            for key, outcome in self._completed():
                worker, task = self.busy.pop(key)
                if isinstance(outcome, Died):
                    worker = self._start()
                    deaths[id(task)] += 1
                    if deaths[id(task)] < MAX_ATTEMPTS:
                        pending.appendleft(task)
                    else:
                        outcome = Failure(f"its worker died {MAX_ATTEMPTS} times, the last time: {outcome.cause}")
                self.idle.append(worker)
                if not isinstance(outcome, Died):
                    yield task, checked(outcome)

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *error: object) -> None:
        for worker in [*self.idle, *(worker for worker, _ in self.busy.values())]:
            self._stop(worker)
