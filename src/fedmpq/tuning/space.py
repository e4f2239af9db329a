"""What a trial trains: the experiment, shortened, with the values that the search proposes."""

from typing import Any

from fedmpq.config import Dimension, Experiment, Parameters, Tune, check_alpha
from fedmpq.errors import UserError

FIXED = {"data", "image_size", "train_samples", "clients", "budgets", "rounds", "evaluate_quantized"}
"""Not searched: they decide what trials are measured on, or how trials compare round by round."""
DIGITS = 4
"""Significant digits of a proposed float: what is tried is what is written."""


class Space:
    """The search of one experiment, checked as a whole before anything runs."""

    def __init__(self, parameters: Parameters, name: str):
        """Check that every value of the search is allowed where it is to stand.

        Args:
            parameters: of params.yaml, with its section `tune`.
            name: the experiment.

        Raises:
            UserError: there is no section `tune`; or something in it is unknown, or out of range in that experiment.
        """
        if parameters.tune is None:
            raise UserError("params.yaml has no section 'tune'; see the README for its layout")
        self.tune: Tune = parameters.tune
        self.parameters, self.name = parameters, name
        self.shortened = {"seeds": self.tune.seeds, **self.tune.overrides.get(name, {})}
        self.base = self._tried({}, f"tune.overrides.{name}")
        self._check_settings()
        for key, dimension in self.tune.search.items():
            self._check(key, dimension)

    @property
    def search(self) -> dict[str, Dimension]:
        """What is searched, by dotted key."""
        return self.tune.search

    @property
    def fixed(self) -> dict[str, Any]:
        """What else determines the value of a trial, by dotted key."""
        tune, base = self.tune, self.base
        names = ("algorithm", "alpha", "objective", "final_rounds")
        flat = base.flat(tune.algorithm) | {"seeds": base.seeds, "validation": base.validation}
        return {name: getattr(tune, name) for name in names} | {k: flat[k] for k in flat if k not in self.search}

    def experiment(self, values: dict[str, Any]) -> Experiment:
        """The experiment that a trial of `values` (by dotted key) trains."""
        return self.parameters.varied(self.name, {**self.shortened, **values})

    def tidy(self, proposed: dict[str, Any]) -> dict[str, Any]:
        """Proposed values with floats rounded to 4 significant digits, within their range."""
        return {key: _rounded(self.search[key], value) for key, value in proposed.items()}

    def present(self) -> dict[str, Any] | None:
        """The values that params.yaml has now; None if one of them is outside the search."""
        values = {key: self.base.flat(self.tune.algorithm)[key] for key in self.search}
        return values if all(_contains(self.search[key], value) for key, value in values.items()) else None

    def _tried(self, values: dict[str, Any], origin: str) -> Experiment:
        try:
            return self.experiment(values)
        except UserError as error:
            raise UserError(f"{origin}: {error}") from error

    def _check_settings(self) -> None:
        tune = self.tune
        try:
            check_alpha(tune.alpha)
            self.base.algorithm(tune.algorithm)
            for name in tune.overrides:
                self.parameters.experiment(name)
        except UserError as error:
            raise UserError(f"tune: {error}") from error
        whole = self.parameters.experiment(self.name)
        if (self.base.data, self.base.image_size) != (whole.data, whole.image_size):
            raise UserError(f"tune.overrides.{self.name}: data and image_size are not allowed; allowed: all other keys")

    def _check(self, key: str, dimension: Dimension) -> None:
        allowed = [name for name in self.base.flat(self.tune.algorithm) if name not in FIXED]
        if key not in allowed:
            raise UserError(f"tune.search: unknown parameter {key!r}; allowed: {', '.join(allowed)}")
        for value in dimension.extremes:
            self._tried({key: value}, f"tune.search.{key}")


def _rounded(dimension: Dimension, value: Any) -> Any:
    if dimension.kind != "float":
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), dimension.low), dimension.high)


def _contains(dimension: Dimension, value: Any) -> bool:
    if dimension.kind == "categorical":
        return value in dimension.choices
    return value is not None and dimension.low <= value <= dimension.high
