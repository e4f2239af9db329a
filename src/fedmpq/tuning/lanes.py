"""Where trials are carried out: in this process, or several at a time in processes of their own.

Lanes only train. Whoever owns the study starts trials and, after each round, says whether to go on.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

import torch

from fedmpq.config import Execution, Experiment
from fedmpq.errors import UserError
from fedmpq.tuning.trial import Plan, Row, TrialFailed, run

SEQUENTIAL = Execution(executor="sequential")
REASON_LENGTH = 300


@dataclass(frozen=True)
class Ended:
    """A trial has no more rounds."""

    failure: str | None = None
    """Why it has no value; None: it is complete."""


Event = Row | Ended


class Lanes(Protocol):
    """Carries out trials; a context manager that ends what still runs."""

    @property
    def free(self) -> bool:
        """Whether one more trial can be started."""

    def start(self, number: int, experiment: Experiment) -> None:
        """Start trial `number`."""

    def next(self) -> tuple[int, Event]:
        """Wait for the next round or end of a trial; returns its number and what came."""

    def answer(self, number: int, go_on: bool) -> None:
        """Let trial `number`, after a round, go on; or give it up."""

    def __enter__(self) -> "Lanes": ...

    def __exit__(self, *error: object) -> None: ...


def build_lanes(plan: Plan, execution: Execution, workers: int) -> Lanes:
    """Lanes for `workers` trials at a time. One alone spreads its clients as `execution` says."""
    return InProcess(plan, execution) if workers == 1 else Processes(plan, execution.device, workers)


def events(plan: Plan, experiment: Experiment, execution: Execution) -> Iterator[Event]:
    """The rounds of a trial, then its end; whatever goes wrong is its reason."""
    try:
        yield from run(plan, experiment, execution)
    except Exception as error:  # one bad trial must not end the sweep
        yield Ended(explain(error))
    else:
        yield Ended()


def explain(error: Exception) -> str:
    """Why a trial failed, in one line."""
    lines = str(error).strip().splitlines() or [""]
    text = lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}"
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in text:
        text = f"out of memory ({text or type(error).__name__})"
    elif not isinstance(error, UserError | TrialFailed):
        text = f"{type(error).__name__}: {text}"
    return text[:REASON_LENGTH]


class InProcess:
    """One trial at a time, in this process."""

    def __init__(self, plan: Plan, execution: Execution):
        self.plan, self.execution = plan, execution
        self._running: tuple[int, Iterator[Event]] | None = None

    @property
    def free(self) -> bool:
        """See `Lanes.free`."""
        return self._running is None

    def start(self, number: int, experiment: Experiment) -> None:
        """See `Lanes.start`."""
        self._running = number, events(self.plan, experiment, self.execution)

    def next(self) -> tuple[int, Event]:
        """See `Lanes.next`."""
        number, rounds = self._running
        event = next(rounds)
        if isinstance(event, Ended):
            self._running = None
        return number, event

    def answer(self, number: int, go_on: bool) -> None:
        """See `Lanes.answer`."""
        if not go_on:
            self.__exit__()

    def __enter__(self) -> "InProcess":
        return self

    def __exit__(self, *error: object) -> None:
        if self._running:
            self._running[1].close()
            self._running = None


class Processes:
    """Each trial in one single-threaded process; a process that dies is replaced, its trial has failed."""

    def __init__(self, plan: Plan, device: str, workers: int):
        self.context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
        if os.name == "posix":
            self.context.set_forkserver_preload([__name__])  # imported once, for all processes
        self.plan, self.execution = plan, SEQUENTIAL.model_copy(update={"device": device})
        self.idle = [self._start() for _ in range(workers)]
        self.busy: dict[int, tuple[Any, Connection]] = {}

    def _start(self) -> tuple[Any, Connection]:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=_serve, args=(theirs, self.plan, self.execution), daemon=True)
        process.start()
        theirs.close()
        return process, ours

    @property
    def free(self) -> bool:
        """See `Lanes.free`."""
        return bool(self.idle)

    def start(self, number: int, experiment: Experiment) -> None:
        """See `Lanes.start`."""
        process, connection = self.idle.pop()
        if not process.is_alive():
            process, connection = self._start()
        self.busy[number] = process, connection
        with suppress(ConnectionError):  # if it dies now, the wait for its event notices
            connection.send(experiment)

    def next(self) -> tuple[int, Event]:
        """See `Lanes.next`."""
        ready = wait([connection for _, connection in self.busy.values()])[0]
        number = next(number for number, (_, connection) in self.busy.items() if connection is ready)
        try:
            event = ready.recv()
        except (EOFError, ConnectionError):
            process, _ = self.busy.pop(number)
            process.join()
            self.idle.append(self._start())
            return number, Ended(_cause(process.exitcode))
        if isinstance(event, Ended):
            self.idle.append(self.busy.pop(number))
        return number, event

    def answer(self, number: int, go_on: bool) -> None:
        """See `Lanes.answer`."""
        with suppress(ConnectionError):
            self.busy[number][1].send(go_on)
        if not go_on:
            self.idle.append(self.busy.pop(number))

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *error: object) -> None:
        for process, connection in [*self.idle, *self.busy.values()]:
            connection.close()
            process.terminate()
            process.join()


def _cause(exit_code: int) -> str:
    if exit_code == -signal.SIGKILL:
        return "its process was killed, perhaps for want of memory"
    return f"its process died with exit code {exit_code}"


def _serve(connection: Connection, plan: Plan, execution: Execution) -> None:
    """The life of a process: trials in, rounds out, until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides
    with suppress(EOFError, ConnectionError):
        while True:
            rounds = events(plan, connection.recv(), execution)
            for event in rounds:
                connection.send(event)
                if not isinstance(event, Ended) and not connection.recv():
                    rounds.close()
