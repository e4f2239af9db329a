"""The memory of a search: an Optuna study in a file, which outlives every kill.

A trial that was running when its process died is run again; what has come to an end counts towards the number asked
for, so that the same command completes a search, once.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from filelock import FileLock
from optuna.pruners import NopPruner, PercentilePruner
from optuna.samplers import TPESampler
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, TrialState
from ruamel.yaml import YAML, YAMLError

from fedmpq.errors import UserError
from fedmpq.files import exclusive
from fedmpq.tuning.space import Space

MAX_ATTEMPTS = 3
"""Parameters whose process was killed so often are not tried again."""
RANDOM_TRIALS = 8
"""Trials before the sampler learns from their results."""
UNPRUNED_TRIALS = 5
"""Complete trials before others are compared with them."""
KEPT = 75.0
"""Per cent of the trials that are worth going on; the others are given up."""
# What a trial carries besides its parameters and objectives.
VALUES, ROUNDS, SUMMARY, REASON, ATTEMPT = "values", "rounds", "summary", "reason", "attempt"


class Study:
    """A search and what it has found."""

    def __init__(self, path: Path, space: Space):
        """Open the file `path`, or make it; several processes may have it open.

        Raises:
            UserError: it is damaged.
        """
        self.path, self.space, rounds = path, space, space.base.training.rounds
        self._remedy = f"start a new study: make tune EXPERIMENT={space.name} NEW=1"
        optuna.logging.set_verbosity(optuna.logging.CRITICAL)
        # Once, half-way: earlier a curve is steep, and judged after each round most trials are once too low.
        pruner = PercentilePruner(KEPT, UNPRUNED_TRIALS, n_warmup_steps=(rounds + 1) // 2, interval_steps=rounds)
        # The system releases this lock when its process dies; on Optuna's own the next one would wait.
        backend = JournalFileBackend(str(path), lock_obj=FileLock(f"{path}.lock"))
        try:
            self.optuna = optuna.create_study(
                storage=JournalStorage(backend),
                study_name=space.name,
                directions=["maximize", "minimize"] if space.two else ["maximize"],
                sampler=Sampler(space.tune.sampler_seed),
                pruner=pruner if space.tune.pruning else NopPruner(),
                load_if_exists=True,
            )
        except (ValueError, KeyError) as error:
            raise UserError(f"{path} is damaged ({error}); {self._remedy}") from error

    @property
    def trials(self) -> list[FrozenTrial]:
        """Trials that have come to an end, by number."""
        return [trial for trial in self.optuna.get_trials(deepcopy=False) if trial.state.is_finished()]

    @property
    def settled(self) -> int:
        """Trials that count: all that have come to an end but those whose process was killed."""
        return sum(trial.state != TrialState.FAIL or REASON in trial.user_attrs for trial in self.trials)

    @property
    def left(self) -> int:
        """Trials that have not come to an end yet."""
        return max(0, self.space.tune.trials - self.settled)

    @property
    def ranked(self) -> list[FrozenTrial]:
        """The complete trials, the best first; of two objectives the Pareto front first, highest accuracy first."""
        complete = self.optuna.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        front = {trial.number for trial in self.optuna.best_trials} if complete else set()
        return sorted(complete, key=lambda trial: (trial.number not in front, -trial.values[0], trial.number))

    def recover(self) -> None:
        """Fail what processes that are all dead left running, and line its parameters up again."""
        for trial in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.optuna.tell(trial.number, state=TrialState.FAIL)
            attempt = trial.user_attrs.get(ATTEMPT, 1)
            if attempt < MAX_ATTEMPTS and trial.params:
                self.optuna.enqueue_trial(trial.params, {ATTEMPT: attempt + 1})

    def identify(self, identity: dict[str, Any]) -> None:
        """Raise UserError unless all trials have `identity` in common; the first one is what params.yaml has now."""
        found = self.optuna.user_attrs.get("identity")
        if found is None:
            start = {key: self.space.present[key] for key in self.space.search}
            if all(start[key] in dimension for key, dimension in self.space.search.items()):
                self.optuna.enqueue_trial(start, skip_if_exists=True)
            self.optuna.set_user_attr("identity", identity)
        elif keys := [key for key in {**found, **identity} if found.get(key) != identity.get(key)]:
            changes = ", ".join(f"{key} {found.get(key)} -> {identity.get(key)}" for key in keys)
            raise UserError(
                f"{self.path} holds a study of other settings ({changes}); set them back, or {self._remedy}"
            )


class Sampler(TPESampler):
    """A seed of its own for each trial: a search that goes on does not propose the same values again."""

    def __init__(self, seed: int):
        super().__init__(seed=seed, n_startup_trials=RANDOM_TRIALS)
        self.seed = seed

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Begin anew, with the seed of `trial`."""
        super().__init__(seed=self.seed + trial.number, n_startup_trials=RANDOM_TRIALS)


@contextmanager
def opened(folder: Path, space: Space, identity: dict[str, Any], new: bool = False) -> Iterator[Study]:
    """The newest study in `folder`, alone for this process and its workers; a new one if there is none, or if `new`.

    Raises:
        UserError: another process has it; it is of another `identity`; or it cannot be read or written.
    """
    with exclusive(folder / "study.lock", f"the study in {folder}"):
        number = max((int(path.stem.split("-")[1]) for path in folder.glob("study-*.journal")), default=0)
        path = folder / f"study-{number + 1 if new or not number else number}.journal"
        try:
            if path.exists():  # A last line that a full disk left incomplete would make the file unreadable.
                os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
            study = Study(path, space)
            study.identify(identity)
            study.recover()
            yield study
        except OSError as error:
            if error.filename is None or str(folder) in str(error.filename):
                raise UserError(f"cannot write {path}: {error.strerror or error}") from error
            raise


def table(study: Study) -> pd.DataFrame:
    """trials.csv, the best trials first: number, state, what was measured (see `summarize`), values, why it failed."""
    ranked, rows = study.ranked, []
    for trial in ranked + [trial for trial in study.trials if trial not in ranked]:
        measured, values, reason = (trial.user_attrs.get(name) for name in (SUMMARY, VALUES, REASON))
        row = {"trial": trial.number, "state": trial.state.name.lower(), **(measured or {}), **(values or {})}
        rows.append({**row, "reason": reason})
    return pd.DataFrame(rows)


def write_best(study: Study, path: Path) -> None:
    """Write the values of the complete trials, the best one first."""
    found = {t.number: {"accuracy": round(t.values[0], 6), "values": t.user_attrs[VALUES]} for t in study.ranked}
    YAML().dump(found, path)


def read_best(path: Path) -> dict[int, dict[str, Any]]:
    """The values, by dotted key, of each trial that `write_best` wrote; the best one first.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        found = YAML(typ="safe", pure=True).load(path.read_text())
        return {int(number): dict(trial["values"]) for number, trial in found.items()}
    except (OSError, ValueError, YAMLError, KeyError, TypeError, AttributeError) as error:
        reason, remedy = " ".join(str(error).split()), f"remove {path.parent}, if it is there, and: make tune"
        raise UserError(f"no best values in {path} ({reason}); {remedy} EXPERIMENT={path.parts[-3]}") from error
