"""A pool of workers that may die, whatever they run on."""

import pickle
import socket
import traceback
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from fedmpq.engine.hardware import keep_memory
from fedmpq.engine.method import code_digest
from fedmpq.engine.processes import SOURCE
from fedmpq.errors import UserError
from fedmpq.federated.setup import Setup
from fedmpq.federated.tasks import Failure, Task, TaskFailed

MAX_ATTEMPTS = 3
"""A task whose worker dies is tried so often before it counts as failed."""


@dataclass(frozen=True)
class Crash:
    """An error that is no failure of a client but a fault of the program."""

    trace: str


@dataclass(frozen=True)
class Died:
    """The worker is gone, and its task with it."""

    cause: str
    ready: bool = True
    """Whether it had begun to take tasks."""


@dataclass(frozen=True)
class Briefing:
    """What a worker, in a process of its own, begins with."""

    setup: bytes
    """Pickled by itself: other code might not be able to read it, and is to say so."""
    code: tuple[str, str]
    """Algorithm and network, which name the files of the method."""
    digest: str
    """Of those files."""
    place: str
    """Where they are."""

    @classmethod
    def of(cls, setup: Setup) -> "Briefing":
        """The briefing for the run that `setup` describes, from this process's code."""
        code = setup.algorithm_name, setup.experiment.model.network
        return cls(pickle.dumps(setup), code, code_digest(*code), _place())

    def carrier(self) -> Callable[[Task], Any]:
        """What carries out tasks in this process, as `carry_out` does; without a worker it says why there is none."""
        worker = carry_out(self._worker)
        if isinstance(worker, Crash | UserError):
            return lambda task: worker
        return lambda task: carry_out(worker.run, task)

    def _worker(self) -> Any:
        if self.place != _place() and self.digest != code_digest(*self.code):
            raise UserError(f"the code of a worker, in {_place()}, differs from that of the run, in {self.place}")
        from fedmpq.federated.worker import Worker

        keep_memory()
        return Worker(pickle.loads(self.setup))


def _place() -> str:
    return f"{socket.gethostname()}:{SOURCE}"


def carry_out(run: Callable[..., Any], *arguments: Any) -> Any:
    """What `run` makes of `arguments`: its result, a `Failure`, a `UserError` or a `Crash`."""
    try:
        return run(*arguments)
    except TaskFailed as error:
        return Failure(str(error))
    except UserError as error:
        return error
    except Exception:
        return Crash(traceback.format_exc())


def checked(outcome: Any) -> Any:
    """`outcome`, unless it is a `UserError` or a `Crash`: then that error."""
    if isinstance(outcome, UserError):
        raise outcome
    if isinstance(outcome, Crash):
        raise RuntimeError(f"a worker failed:\n{outcome.trace}")
    return outcome


class Pool(ABC):
    """Workers that each carry out one task at a time; the costliest task first.

    A worker that dies is replaced and its task tried again, at most twice. One that dies before it is ready ends the
    run: so would the next.
    """

    def __init__(self, setup: Setup, workers: int):
        self.briefing = Briefing.of(setup)
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
        """Wait for a busy worker; yield keys with outcomes, `Died` among them."""

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
                    if not outcome.ready:
                        raise UserError(f"a worker ended before it was ready: {outcome.cause}")
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
