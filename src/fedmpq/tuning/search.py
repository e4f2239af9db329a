"""The search: Optuna proposes, a trial trains, until as many trials as asked for have come to an end."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from typing import Any

from optuna import Trial, TrialPruned
from optuna.trial import FrozenTrial

from fedmpq.config import Execution, Experiment
from fedmpq.data.arrays import Dataset
from fedmpq.data.dirichlet import draw_partition, training_samples, validation_split
from fedmpq.engine import processes
from fedmpq.engine.hardware import resolve_device, resolve_precision
from fedmpq.errors import UserError
from fedmpq.federated.setup import Setup
from fedmpq.tuning.space import Space
from fedmpq.tuning.study import REASON, ROUNDS, SUMMARY, VALUES, Study
from fedmpq.tuning.trial import run, summarize

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
    execution: Execution

    def setups(self, values: dict[str, Any]) -> list[Setup]:
        """The runs of a trial of `values` (by dotted key), one for each seed, measured on images that none trains on.

        Raises:
            UserError: the data are missing or damaged, or cannot be divided so.
        """
        experiment = self.space.experiment(values)
        return [self._setup(experiment, seed) for seed in experiment.partition.seeds]

    def _setup(self, experiment: Experiment, seed: int) -> Setup:
        tune, labels = self.space.tune, Dataset.load(self.data).train_labels
        used = training_samples(labels, experiment.data.train_samples, seed)
        trained, held_out = validation_split(labels[used], experiment.data.validation, seed)
        rules = experiment.partition.model_dump(include={"clients", "min_samples", "max_redraws"})
        partition = draw_partition(labels, alpha=tune.alpha, seed=seed, samples=used[trained], **rules)
        device = resolve_device(self.execution.device)
        precision = resolve_precision(experiment.training.precision, device)
        return Setup(experiment, tune.algorithm, seed, self.data, partition, device, precision, used[held_out])

    def __call__(self, trial: Trial) -> tuple[float, ...]:
        """Train, and leave with the trial what was measured, or why it failed."""
        values, space = self.space.suggest(trial), self.space
        trial.set_user_attr(VALUES, values)
        rows, summary = [], {}
        try:
            for row in run(self.setups(values), self.execution):
                rows.append(row)
                summary = summarize(rows, space.tune.final_rounds)
                if not space.two:
                    trial.report(summary["accuracy"], len(rows))  # What counts in the end: a single round is noise.
                    if len(rows) < space.base.training.rounds and trial.should_prune():
                        raise TrialPruned
        except TrialPruned:
            raise
        except Exception as error:
            trial.set_user_attr(REASON, explain(error))
            raise
        finally:
            trial.set_user_attr(ROUNDS, rows)
            trial.set_user_attr(SUMMARY, summary)
        return (summary["accuracy"], summary["uplink_bytes"])[: 1 + space.two]


def explain(error: Exception) -> str:
    """Why a trial failed, in one line."""
    lines = str(error).strip().splitlines() or [""]
    text = " ".join(dict.fromkeys([lines[0], lines[-1]]))
    return (text if isinstance(error, UserError) else f"{type(error).__name__}: {text}")[:REASON_LENGTH]


def search(study: Study, objective: Objective, ended: Callable[[FrozenTrial], None]) -> None:
    """Run the trials of `study` that are left; `ended` is called with each that has come to an end.

    Raises:
        UserError: the first trials all failed, or the processes that run them did.
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
        return
    while left := study.left:
        _search_in_processes(study, objective, check)
        study.recover()  # A process may have died, for want of memory, say: its trial is left, but not for ever.
        if study.left == left:
            raise UserError("no trial has come to an end in any process; try again with workers=1")


def _search_in_processes(study: Study, objective: Objective, check: Callable[[], None]) -> None:
    """Let several processes work at the file of the study, a ticket for each trial, until none is left."""
    tickets, count = processes.CONTEXT.Semaphore(study.left), min(study.space.tune.workers, study.left)
    alone = replace(objective, execution=objective.execution.model_copy(update={"executor": "sequential"}))
    started = running = [processes.start(_work, alone, study.path, tickets) for _ in range(count)]
    try:
        while running:
            wait([process.sentinel for process in running], POLL_SECONDS)
            running = [process for process in running if process.is_alive()]
            check()
    finally:
        for process in started:
            process.terminate()
            process.join()


def _work(objective: Objective, path: Path, tickets: Semaphore) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    study = Study(path, objective.space).optuna
    while tickets.acquire(block=False):
        study.optimize(objective, n_trials=1, catch=Exception)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
