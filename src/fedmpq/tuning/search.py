"""The search: Optuna proposes, a trial trains, until as many trials as asked for have come to an end."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from typing import Any

import torch
from optuna import Trial, TrialPruned
from optuna.trial import FrozenTrial

from fedmpq.config import Execution
from fedmpq.errors import UserError
from fedmpq.federated.setup import Setup
from fedmpq.tuning.space import Space
from fedmpq.tuning.study import PROCESS, REASON, ROUNDS, SUMMARY, VALUES, Study
from fedmpq.tuning.trial import Row, build_setup, run, summarize

FAILURES = 3
"""If the first so many trials all fail, the fault is not in their values."""
REASON_LENGTH = 300
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Objective:
    """What Optuna optimizes: accuracy on validation images; with two objectives also the bytes that a client sends."""

    space: Space
    data: Path
    """Folder of the prepared arrays."""
    device: torch.device
    execution: Execution

    def setups(self, values: dict[str, Any]) -> list[Setup]:
        """The runs of a trial of `values` (by dotted key), one for each seed; see `build_setup`."""
        tune, experiment = self.space.tune, self.space.experiment(values)
        rest = self.data, self.device
        return [build_setup(experiment, tune.algorithm, tune.alpha, seed, *rest) for seed in experiment.partition.seeds]

    def rounds(self, values: dict[str, Any]) -> Iterator[Row]:
        """Train with `values`; see `run`."""
        return run(self.setups(values), self.execution)

    def __call__(self, trial: Trial) -> tuple[float, ...]:
        """Train, and leave with the trial what was measured, or why it failed."""
        trial.set_user_attr(PROCESS, os.getpid())
        values = self.space.suggest(trial)
        trial.set_user_attr(VALUES, values)
        rows, summary, last = [], {}, self.space.base.training.rounds
        try:
            for row in self.rounds(values):
                rows.append(row)
                summary = summarize(rows, self.space.tune.final_rounds)
                if not self.space.two:
                    trial.report(summary["accuracy"], len(rows))  # What counts in the end: a single round is noise.
                    if len(rows) < last and trial.should_prune():
                        raise TrialPruned
        except Exception as error:
            if not isinstance(error, TrialPruned):
                trial.set_user_attr(REASON, explain(error))
            raise
        finally:
            trial.set_user_attr(ROUNDS, rows)
            trial.set_user_attr(SUMMARY, summary)
        return (summary["accuracy"], summary["uplink_bytes"])[: 1 + self.space.two]


def explain(error: Exception) -> str:
    """Why a trial failed, in one line."""
    lines = str(error).strip().splitlines() or [""]
    text = " ".join(dict.fromkeys([lines[0], lines[-1]]))
    return (text if isinstance(error, UserError) else f"{type(error).__name__}: {text}")[:REASON_LENGTH]


def search(study: Study, objective: Objective, ended: Callable[[FrozenTrial], None]) -> None:
    """Run the trials of `study` that are left; `ended` is called with each that has come to an end.

    Raises:
        UserError: the first trials all failed.
    """
    known, reasons = {trial.number for trial in study.trials}, []

    def check(*_: Any) -> None:
        for trial in study.trials:
            if trial.number not in known:
                known.add(trial.number)
                reasons.append(trial.user_attrs.get(REASON))
                ended(trial)
        if len(reasons) >= FAILURES and all(reasons):
            raise UserError(f"the first {len(reasons)} trials failed; the last reason: {reasons[-1]}")

    if study.space.tune.workers == 1:
        study.optuna.optimize(objective, n_trials=study.left, catch=Exception, callbacks=[check])
    else:
        _search_in_processes(study, objective, check)


def _search_in_processes(study: Study, objective: Objective, check: Callable[[], None]) -> None:
    """Let several processes work at the file of the study; one that dies is replaced."""
    context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
    tickets, processes = context.Semaphore(study.left), {}
    try:
        while True:
            while len(processes) < study.space.tune.workers and tickets.acquire(block=False):
                process = context.Process(target=_work, args=(objective, study.path, tickets), daemon=True)
                process.start()
                processes[process.sentinel] = process
            if not processes:
                return
            for sentinel in wait(list(processes), POLL_SECONDS):
                for _ in range(study.recover(processes.pop(sentinel).pid)):
                    tickets.release()
            check()
    finally:
        for process in processes.values():
            process.terminate()
            process.join()


def _work(objective: Objective, path: Path, tickets: Semaphore) -> None:
    """The life of a process: a trial for each ticket, of which the caller has taken the first one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    Study(path, objective.space).optuna.optimize(
        replace(objective, execution=Execution(executor="sequential")),
        catch=Exception,
        callbacks=[lambda study, _: tickets.acquire(block=False) or study.stop()],
    )


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
