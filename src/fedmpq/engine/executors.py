"""How the tasks of a round are carried out. None of it changes a result.

An executor takes tasks and yields each with its outcome, in any order. The module of the workers is imported
where one is made: Lightning takes seconds, which a server with its workers elsewhere need not wait for.
"""

import signal
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from fedmpq.config import Execution
from fedmpq.engine import processes
from fedmpq.engine.hardware import keep_memory, plan
from fedmpq.engine.pool import ONE_AT_A_TIME, Carrier, Died, NotReady, Pool, carry_out, checked, new_worker
from fedmpq.federated.setup import Setup
from fedmpq.federated.tasks import Executor, Task


def build_executor(execution: Execution, setup: Setup) -> Executor:
    """The executor that `execution` names, for the run that `setup` describes."""
    keep_memory()
    if execution.executor == "sequential":
        return Sequential(setup)
    workers, _ = plan(setup, execution)
    if execution.executor == "ray":
        from fedmpq.engine.ray_executor import Ray

        return Ray(setup, workers, execution.ray_address)
    return Pool(partial(Process, setup), workers)


class Sequential(nullcontext):
    """One task after another in this process."""

    def __init__(self, setup: Setup):
        super().__init__(self)
        self.worker = new_worker(setup)

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
        """See `Executor.run`."""
        for task in tasks:
            yield task, checked(carry_out(self.worker.run, task))


class Process:
    """A worker of a `Pool` in a single-threaded process on this machine."""

    def __init__(self, setup: Setup):
        self.connection, theirs = processes.CONTEXT.Pipe()
        self.process, self.ready = processes.start(_serve, theirs, setup), False
        theirs.close()

    def run(self, task: Task) -> Any:
        """The outcome of `task`; raises Died or NotReady."""
        try:
            self.ready = self.ready or self.connection.recv()
            self.connection.send(task)
            return self.connection.recv()
        except (EOFError, ConnectionError) as error:
            with ONE_AT_A_TIME:
                self.process.join()
            killed = ", killed, perhaps for want of memory" * (self.process.exitcode == -signal.SIGKILL)
            raise (Died if self.ready else NotReady)(f"exit code {self.process.exitcode}{killed}") from error

    def stop(self) -> None:
        """Let it go, whatever it does."""
        self.process.terminate()
        self.process.join()


def _serve(connection: Connection, setup: Setup) -> None:
    """The life of a process: says that it is ready; then tasks in, outcomes out, until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides.
    with suppress(EOFError, ConnectionError):
        carrier = Carrier(new_worker, setup)
        connection.send(True)
        while True:
            connection.send(carrier.run(connection.recv()))
