"""The memory of a search: an Optuna study in a file, which outlives every kill.

One process at a time writes to it. A trial that was running when that process died is run again; what has
come to an end counts towards the number asked for, so that the same command completes a search, once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import NopPruner, PercentilePruner
from optuna.samplers import TPESampler
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from fedmpq.config import Dimension
from fedmpq.errors import UserError
from fedmpq.files import exclusive
from fedmpq.tuning.space import Space
from fedmpq.tuning.trial import Row, summarize

MAX_ATTEMPTS = 3
"""A trial during which the search was killed so often is not run again."""
RANDOM_TRIALS = 8
"""Trials before the sampler learns from their results."""
UNPRUNED_TRIALS = 5
"""Complete trials before others are compared with them."""
KEPT = 75.0
"""Per cent of the trials that are worth going on; the others are given up."""
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
# What a trial carries besides its parameters and values.
VALUES, ROUNDS, SUMMARY, REASON, RETRY_OF, ATTEMPT = "values", "rounds", "summary", "reason", "retry_of", "attempt"

Identity = dict[str, Any]


class Study:
    """A search, what it has found, and the trials that run now."""

    def __init__(self, study: optuna.Study, space: Space):
        self.optuna, self.space = study, space
        self.running: dict[int, tuple[Trial, list[Row]]] = {}

    @property
    def trials(self) -> list[FrozenTrial]:
        """Trials that have come to an end, by number."""
        return self.optuna.get_trials(deepcopy=False, states=FINISHED)

    @property
    def repeated(self) -> dict[int, int]:
        """For each killed trial that is run again, the number of the trial that repeats it."""
        trials = self.optuna.get_trials(deepcopy=False)
        return {trial.user_attrs[RETRY_OF]: trial.number for trial in trials if RETRY_OF in trial.user_attrs}

    @property
    def settled(self) -> int:
        """Trials that count; one that was killed does not if it is run again or had not begun."""
        repeated = self.repeated
        return sum(trial.number not in repeated and VALUES in trial.user_attrs for trial in self.trials)

    @property
    def left(self) -> int:
        """Trials to be started."""
        return max(0, self.space.tune.trials - self.settled - len(self.running))

    @property
    def two(self) -> bool:
        """Whether there are two objectives."""
        return len(self.optuna.directions) == 2

    @property
    def best(self) -> list[FrozenTrial]:
        """The best complete trial, if any; of two objectives the Pareto front, highest accuracy first."""
        complete = any(trial.state == TrialState.COMPLETE for trial in self.trials)
        found = self.optuna.best_trials if complete else []
        return sorted(found, key=lambda trial: (-trial.values[0], trial.number))[: None if self.two else 1]

    def recall(self, name: str) -> Any:
        """What `remember` was given last under this name; None if nothing was."""
        return self.optuna.user_attrs.get(name)

    def remember(self, name: str, value: Any) -> None:
        """Keep something, as JSON, with the study."""
        if value != self.recall(name):
            self.optuna.set_user_attr(name, value)

    def ask(self) -> tuple[int, dict[str, Any]]:
        """Begin a trial; returns its number and its values by dotted key."""
        # A seed of its own for each trial: a search that goes on does not propose the same values again.
        seed = self.space.tune.sampler_seed + len(self.optuna.get_trials(deepcopy=False))
        self.optuna.sampler = TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS)
        trial = self.optuna.ask({key: _distribution(found) for key, found in self.space.search.items()})
        values = self.space.tidy(trial.params)
        trial.set_user_attr(VALUES, values)
        self.running[trial.number] = trial, []
        return trial.number, values

    def report(self, number: int, row: Row) -> bool:
        """Take a round of a running trial in; returns whether the trial is worth going on."""
        trial, rows = self.running[number]
        rows.append(row)
        if self.two:
            return True
        # Compared is what counts in the end; a single round is noise.
        trial.report(summarize(rows, self.space.tune.final_rounds)["accuracy"], row["round"])
        last = row["round"] == self.space.base.rounds
        return last or not trial.should_prune()

    def give_up(self, number: int) -> None:
        """End a running trial as pruned."""
        self.optuna.tell(self._ended(number), state=TrialState.PRUNED)

    def end(self, number: int, failure: str | None = None) -> None:
        """End a running trial as complete; or, with the reason `failure`, as failed."""
        trial = self._ended(number)
        if failure is not None:
            trial.set_user_attr(REASON, failure)
            self.optuna.tell(trial, state=TrialState.FAIL)
            return
        summary = trial.user_attrs[SUMMARY]
        self.optuna.tell(trial, [summary["accuracy"], summary["uplink_bytes"]][: len(self.optuna.directions)])

    def _ended(self, number: int) -> Trial:
        trial, rows = self.running.pop(number)
        if rows:
            trial.set_user_attr(ROUNDS, rows)
            trial.set_user_attr(SUMMARY, summarize(rows, self.space.tune.final_rounds))
        return trial

    def recover(self) -> None:
        """Fail what a process that died left running, and line its parameters up again."""
        repeated = self.repeated
        for trial in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            attempt = trial.user_attrs.get(ATTEMPT, 1)
            # Lined up first: a kill between the two must not lose it.
            if VALUES in trial.user_attrs and attempt < MAX_ATTEMPTS and trial.number not in repeated:
                self.optuna.enqueue_trial(trial.params, {RETRY_OF: trial.number, ATTEMPT: attempt + 1})
            self.optuna.tell(trial.number, state=TrialState.FAIL)


@contextmanager
def opened(folder: Path, space: Space, identity: Identity, new: bool = False) -> Iterator[Study]:
    """The newest study in `folder`, alone for this process; a new one if there is none, or if `new`.

    Args:
        folder: of the studies of one experiment.
        space: what is searched.
        identity: what all trials of a study have in common, as JSON.
        new: leave earlier studies as they are, and begin another one.

    Raises:
        UserError: another process has it; it is of another `identity`; or it cannot be read or written.
    """
    with exclusive(folder / "study.lock", f"the study in {folder}"):
        number = max((int(path.stem.split("-")[1]) for path in folder.glob("study-*.journal")), default=0)
        path = folder / f"study-{number + 1 if new or not number else number}.journal"
        try:
            _repair(path)
            study = Study(_load(path, space), space)
            _check_identity(study.optuna, identity, path, space)
            study.recover()
            yield study
        except OSError as error:
            if error.filename is None or str(folder) in str(error.filename):
                raise UserError(f"cannot write {path}: {error.strerror or error}") from error
            raise


def _repair(path: Path) -> None:
    """Cut off a last line that a full disk left incomplete: nothing could be read after it."""
    content = path.read_bytes() if path.exists() else b""
    if not content.endswith(b"\n") and content:
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


def _load(path: Path, space: Space) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    two = space.tune.objective == "accuracy-and-bytes"
    # Once, half-way: earlier a curve is steep and noisy, and looked at round after round most trials are once too low.
    rounds = space.base.rounds
    pruner = PercentilePruner(KEPT, UNPRUNED_TRIALS, n_warmup_steps=(rounds + 1) // 2, interval_steps=rounds)
    # The system releases this lock when its process dies; on Optuna's own the next one would wait.
    backend = JournalFileBackend(str(path), lock_obj=FileLock(f"{path}.lock"))
    try:
        return optuna.create_study(
            storage=JournalStorage(backend),
            study_name=space.name,
            directions=["maximize", "minimize"] if two else ["maximize"],
            pruner=pruner if space.tune.pruning and not two else NopPruner(),
            load_if_exists=True,
        )
    except (ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error}); start a new study: {_command(space)}") from error


def _check_identity(study: optuna.Study, identity: Identity, path: Path, space: Space) -> None:
    found = study.user_attrs.get("identity")
    if found is None:
        study.set_user_attr("identity", identity)
        if present := space.present():
            study.enqueue_trial(present, skip_if_exists=True)  # so that the best is no worse than what was there
    elif found != identity:
        keys = [key for key in {**found, **identity} if found.get(key) != identity.get(key)]
        changes = ", ".join(f"{key} {found.get(key)} -> {identity.get(key)}" for key in keys)
        raise UserError(f"{path} holds a study of other settings ({changes}); set them back, or start a new study:"
                        f" {_command(space)}")  # fmt: skip


def _command(space: Space) -> str:
    return f"make tune EXPERIMENT={space.name} NEW=1"


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.kind == "categorical":
        return CategoricalDistribution(dimension.choices)
    kind = FloatDistribution if dimension.kind == "float" else IntDistribution
    return kind(*dimension.extremes, log=dimension.log)
