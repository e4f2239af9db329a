"""How the tasks of a round are carried out. None of it changes a result.

An executor takes tasks and yields each with its outcome, in any order. The module of the workers is imported
where one is made: Lightning takes seconds, which a server with its workers elsewhere need not wait for.
"""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from fedmpq.config import Execution
from fedmpq.engine.hardware import available_cores, keep_memory
from fedmpq.engine.pool import Crash, Died, Pool, carry_out, checked
from fedmpq.federated.setup import Setup
from fedmpq.federated.tasks import Executor, Task


def build_executor(execution: Execution, setup: Setup) -> Executor:
    """The executor that `execution` names, for the run that `setup` describes."""
    keep_memory()
    if execution.executor == "sequential":
        return Sequential(setup)
    if execution.executor == "ray":
        from fedmpq.engine.ray_executor import Ray

        return Ray(setup, execution.workers, execution.ray_address)
    return Processes(setup, execution.workers or available_cores())


class Sequential:
    """One task after another in this process."""

    def __init__(self, setup: Setup):
        from fedmpq.federated.worker import Worker

        self.worker = Worker(setup)

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
        """See `Executor.run`."""
        for task in tasks:
            yield task, checked(carry_out(task, self.worker.run))

    def __enter__(self) -> "Sequential":
        return self

    def __exit__(self, *error: object) -> None:
        pass


class Processes(Pool):
    """Single-threaded processes on this machine."""

    def __init__(self, setup: Setup, workers: int):
        self.context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
        super().__init__(setup, workers)

    def _start(self) -> tuple[Any, Connection]:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=_serve, args=(theirs, self.setup), daemon=True)
        process.start()
        theirs.close()
        return process, ours

    def _send(self, worker: tuple[Any, Connection], task: Task) -> Connection:
        with suppress(ConnectionError):  # If it died idle, the wait for its outcome notices.
            worker[1].send(task)
        return worker[1]

    def _completed(self) -> Iterator[tuple[Connection, Any]]:
        for connection in wait(list(self.busy)):
            process = self.busy[connection][0][0]
            try:
                outcome = connection.recv()
            except (EOFError, ConnectionError):
                process.join()
                outcome = Died(f"exit code {process.exitcode}")
            yield connection, outcome

    def _stop(self, worker: tuple[Any, Connection]) -> None:
        process, connection = worker
        connection.close()
        process.terminate()
        process.join()


def _serve(connection: Connection, setup: Setup) -> None:
    """The life of a worker process: tasks in, outcomes out, until the other side is gone."""
    keep_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides.
    with suppress(EOFError, ConnectionError):
        try:
            from fedmpq.federated.worker import Worker

            worker = Worker(setup)
        except Exception:
            connection.recv()
            connection.send(Crash(traceback.format_exc()))
            return
        while True:
            connection.send(carry_out(connection.recv(), worker.run))
