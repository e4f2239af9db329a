"""What a trial trains: the experiment, shortened, with the values that the search proposes."""

from typing import TYPE_CHECKING, Any

from fedmpq.config import GROUPS, Dimension, Experiment, Parameters
from fedmpq.errors import UserError

if TYPE_CHECKING:
    from optuna.trial import Trial

PREPARED = {"data.source", "data.image_column", "data.label_column", "data.image_size"}
"""Not searched: the arrays are prepared once."""
COMPARED = {"data.train_samples", "data.test_samples", "data.validation", "partition.clients", "partition.seeds"}
COMPARED |= {"model.budgets", "training.rounds", "training.evaluate_quantized"}
"""Not searched: they decide what trials are measured on, or how trials compare round by round."""
DIGITS = 4
"""Significant digits of a proposed float: what is tried is what is written."""


class Space:
    """The search of one experiment, checked as a whole before anything runs."""

    def __init__(self, parameters: Parameters, name: str | None = None):
        """Check that every value of the search is allowed in the experiment `name` (None: the one that `tune` names).

        Raises:
            UserError: there is no section `tune`; or something in it is unknown, or out of range in that experiment.
        """
        if parameters.tune is None:
            raise UserError("params.yaml has no section 'tune'; see the README for its layout")
        self.parameters, self.tune, self.search = parameters, parameters.tune, parameters.tune.search
        self.name = name or self.tune.experiment
        for experiment in self.tune.overrides:
            parameters.experiment(experiment)
        self.overrides = self.tune.overrides.get(self.name, {})
        self.base = self._tried({}, f"tune.overrides.{self.name}")
        allowed = [key for key in self.present if key not in PREPARED | COMPARED]
        for key, dimension in self.search.items():
            if key not in allowed:
                raise UserError(f"tune.search: unknown parameter {key!r}; allowed: {', '.join(allowed)}")
            for value in dimension.extremes:
                self._tried({key: value}, f"tune.search.{key}")

    @property
    def two(self) -> bool:
        """Whether there are two objectives, accuracy and bytes."""
        return self.tune.objective == "accuracy-and-bytes"

    @property
    def present(self) -> dict[str, Any]:
        """What determines a training of the shortened experiment, by dotted key."""
        tree, name = self.base.tree(), self.tune.algorithm
        if self.base.algorithm(name).quantizer:
            del tree["model"]["quantizer"]  # not in force
        return {f"{group}.{key}": value for group in (*GROUPS, name) for key, value in tree[group].items()}

    @property
    def fixed(self) -> dict[str, Any]:
        """What determines the value of a trial besides what is searched."""
        settings = {name: getattr(self.tune, name) for name in ("algorithm", "alpha", "objective", "final_rounds")}
        return settings | {key: value for key, value in self.present.items() if key not in self.search}

    def experiment(self, values: dict[str, Any]) -> Experiment:
        """The experiment that a trial of `values` (by dotted key) trains."""
        return self.parameters.varied(self.name, {**self.overrides, **values})

    def suggest(self, trial: "Trial") -> dict[str, Any]:
        """Values that `trial` proposes, by dotted key; floats rounded to 4 significant digits, within their range."""
        return {key: _suggest(trial, key, dimension) for key, dimension in self.search.items()}

    def _tried(self, values: dict[str, Any], origin: str) -> Experiment:
        try:
            return self.experiment(values)
        except UserError as error:
            raise UserError(f"{origin}: {error}") from error


def _suggest(trial: "Trial", key: str, dimension: Dimension) -> Any:
    if dimension.kind == "categorical":
        return trial.suggest_categorical(key, dimension.choices)
    if dimension.kind == "int":
        return trial.suggest_int(key, *dimension.extremes, log=dimension.log)
    value = trial.suggest_float(key, *dimension.extremes, log=dimension.log)
    return min(max(float(f"{value:.{DIGITS}g}"), dimension.low), dimension.high)
