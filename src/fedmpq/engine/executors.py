"""How the tasks of a round are carried out. None of it changes a result.

An executor takes tasks and yields each with its outcome, in any order. The module of the workers is imported
where one is made: Lightning takes seconds, which a server with its workers elsewhere need not wait for.
"""

import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from fedmpq.config import Execution
from fedmpq.engine import processes
from fedmpq.engine.footprint import workers
from fedmpq.engine.hardware import keep_memory
from fedmpq.engine.pool import Died, Pool, carrier, carry_out, checked, new_worker, not_ready
from fedmpq.federated.setup import Setup
from fedmpq.federated.tasks import Executor, Task

READY = None
"""What a worker process sends before it takes tasks."""


def build_executor(execution: Execution, setup: Setup) -> Executor:
    """The executor that `execution` names, for the run that `setup` describes."""
    keep_memory()
    if execution.executor == "sequential":
        return Sequential(setup)
    if execution.executor == "ray":
        from fedmpq.engine.ray_executor import Ray

        return Ray(setup, workers(setup, execution), execution.ray_address)
    return Processes(setup, workers(setup, execution))


class Sequential:
    """One task after another in this process."""

    def __init__(self, setup: Setup):
        from fedmpq.federated.worker import Worker

        self.worker = Worker(setup)

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
        """See `Executor.run`."""
        for task in tasks:
            yield task, checked(carry_out(self.worker.run, task))

    def __enter__(self) -> "Sequential":
        return self

    def __exit__(self, *error: object) -> None:
        pass


@dataclass(eq=False)
class _Worker:
    """A process, and this side of the connection to it."""

    process: BaseProcess
    connection: Connection
    ready: bool = False


class Processes(Pool):
    """Single-threaded processes on this machine."""

    def _start(self) -> _Worker:
        ours, theirs = processes.CONTEXT.Pipe()
        process = processes.start(_serve, theirs, self.setup)
        theirs.close()
        return _Worker(process, ours)

    def _send(self, worker: _Worker, task: Task) -> Connection:
        with suppress(ConnectionError):  # If it died idle, the wait for its outcome notices.
            worker.connection.send(task)
        return worker.connection

    def _completed(self) -> Iterator[tuple[Connection, Any]]:
        for connection in wait(list(self.busy)):
            worker = self.busy[connection][0]
            try:
                outcome = connection.recv()
            except (EOFError, ConnectionError):
                worker.process.join()
                cause = _cause(worker.process.exitcode)
                outcome = Died(cause) if worker.ready else not_ready(cause)
            if outcome is READY:
                worker.ready = True
            else:
                yield connection, outcome

    def _stop(self, worker: _Worker) -> None:
        worker.connection.close()
        worker.process.terminate()
        worker.process.join()


def _cause(exit_code: int) -> str:
    """Why a process ended."""
    return f"exit code {exit_code}" + ", killed, perhaps for want of memory" * (exit_code == -signal.SIGKILL)


def _serve(connection: Connection, setup: Setup) -> None:
    """The life of a worker process: tasks in, outcomes out, until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides.
    run = carrier(new_worker, setup)
    with suppress(EOFError, ConnectionError):
        connection.send(READY)
        while True:
            connection.send(run(connection.recv()))
