"""How the tasks of a round are carried out. None of it changes a result.

An executor takes tasks and yields each with its outcome, in any order.
"""

import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from fedmpq.config import Execution
from fedmpq.federated.worker import Setup, Task, TaskFailed, Worker

MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class Failure:
    """A task without a result, and why."""

    reason: str


class Executor(Protocol):
    """Carries out tasks; a context manager that lets its workers go at the end."""

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
        """Yield each of `tasks` with its result or a `Failure`, as they are completed."""

    def __enter__(self) -> "Executor": ...

    def __exit__(self, *error: object) -> None: ...


def build_executor(execution: Execution, setup: Setup) -> Executor:
    """The executor that `execution` names, for the run that `setup` describes."""
    if execution.executor == "sequential":
        return Sequential(setup)
    return Processes(setup, execution.workers or available_cores())


def available_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Sequential:
    """One task after another in this process."""

    def __init__(self, setup: Setup):
        self.worker = Worker(setup)

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
        """See `Executor.run`."""
        for task in tasks:
            try:
                yield task, task.run(self.worker)
            except TaskFailed as error:
                yield task, Failure(str(error))

    def __enter__(self) -> "Sequential":
        return self

    def __exit__(self, *error: object) -> None:
        pass


class Processes:
    """A pool of single-threaded worker processes; the costliest task first.

    A worker that dies is replaced and its task tried again, at most twice.
    """

    def __init__(self, setup: Setup, workers: int):
        self.context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
        self.setup = setup
        self.idle = [self._start() for _ in range(workers)]
        self.busy: dict[Connection, tuple[Any, Task]] = {}

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
        """See `Executor.run`."""
        pending = deque(sorted(tasks, key=lambda task: -task.cost))
        attempts: dict[int, int] = {}
        while pending or self.busy:
            while pending and self.idle:
                self._assign(pending.popleft())
            for connection in wait(list(self.busy)):
                process, task = self.busy.pop(connection)
                try:
                    outcome = connection.recv()
                except (EOFError, ConnectionError):
                    outcome = self._replace(process, task, attempts)
                    if outcome is None:
                        pending.appendleft(task)
                        continue
                else:
                    self.idle.append((process, connection))
                if isinstance(outcome, _Crash):
                    raise RuntimeError(f"a worker failed:\n{outcome.trace}")
                yield task, outcome

    def _assign(self, task: Task) -> None:
        process, connection = self.idle.pop()
        with suppress(ConnectionError):  # If it died idle, the wait for its outcome notices.
            connection.send(task)
        self.busy[connection] = (process, task)

    def _replace(self, process: Any, task: Task, attempts: dict[int, int]) -> Failure | None:
        process.join()
        self.idle.append(self._start())
        attempts[id(task)] = attempts.get(id(task), 0) + 1
        if attempts[id(task)] < MAX_ATTEMPTS:
            return None
        return Failure(f"its worker died {MAX_ATTEMPTS} times, the last time with exit code {process.exitcode}")

    def _start(self) -> tuple[Any, Connection]:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=_serve, args=(theirs, self.setup), daemon=True)
        process.start()
        theirs.close()
        return process, ours

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *error: object) -> None:
        workers = [*self.idle, *((process, connection) for connection, (process, _) in self.busy.items())]
        for process, connection in workers:
            connection.close()
            process.terminate()
        for process, _ in workers:
            process.join()


@dataclass(frozen=True)
class _Crash:
    """An error in a worker that is no failure of a client but a fault of the program."""

    trace: str


def _serve(connection: Connection, setup: Setup) -> None:
    """The life of a worker process: tasks in, outcomes out, until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides.
    try:
        worker = Worker(setup)
        while True:
            task = connection.recv()
            try:
                outcome = task.run(worker)
            except TaskFailed as error:
                outcome = Failure(str(error))
            connection.send(outcome)
    except (EOFError, ConnectionError):
        return
    except Exception:
        connection.send(_Crash(traceback.format_exc()))
