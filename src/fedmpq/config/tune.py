"""The section `tune` of params.yaml: what is searched, how, and how long."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fedmpq.config.settings import Positive, Settings, fault


class Dimension(Settings):
    """One parameter that is searched."""

    kind: Literal["float", "int", "categorical"]
    low: float = math.nan
    """Smallest value, of a float or int."""
    high: float = math.nan
    """Largest value, of a float or int."""
    log: bool = False
    """Search evenly over orders of magnitude."""
    choices: Annotated[list[bool | int | float | str | None], Field(default_factory=list)]
    """The values of a categorical parameter."""

    @model_validator(mode="after")
    def _consistent(self) -> "Dimension":
        own = ["choices"] if self.kind == "categorical" else ["low", "high", "log"]
        for name in self.model_fields_set - {"kind", *own}:
            raise fault(name, getattr(self, name), f"{', '.join(own)}, where kind is {self.kind}")
        if self.kind == "categorical":
            if len(set(map(repr, self.choices))) < max(2, len(self.choices)):
                raise fault("choices", self.choices, "two or more different values")
        elif not self.low < self.high:
            raise fault("low", self.low, f"a number below high, {self.high:g}")
        elif self.log and self.low <= 0:
            raise fault("low", self.low, "a number above 0, with log")
        elif self.kind == "int" and not (self.low.is_integer() and self.high.is_integer()):
            raise fault("low", self.low, "whole numbers, as is high, where kind is int")
        return self

    @property
    def extremes(self) -> list[Any]:
        """The smallest and the largest value, or all choices."""
        if self.kind == "categorical":
            return self.choices
        return [int(self.low), int(self.high)] if self.kind == "int" else [self.low, self.high]

    def __contains__(self, value: Any) -> bool:
        return value in self.choices if self.choices else value is not None and self.low <= value <= self.high

    def __str__(self) -> str:
        if self.kind == "categorical":
            return " | ".join(map(str, self.choices))
        return f"{self.kind} {self.low:g} .. {self.high:g}{', log' if self.log else ''}"


class Tune(Settings):
    """How `make tune` searches."""

    experiment: str
    """The section that is tuned where none is named."""
    algorithm: str
    """The algorithm whose validation accuracy counts."""
    alpha: Annotated[float, Field(gt=0)]
    """Dirichlet concentration of the partition."""
    trials: Positive
    """So many in all; those of an earlier call count."""
    objective: Literal["accuracy", "accuracy-and-bytes"]
    """Accuracy alone, or with it the bytes that a client sends in a round: the Pareto front of both."""
    final_rounds: Positive
    """Accuracy is the mean of the last so many rounds, or of all where there are fewer."""
    pruning: bool
    """Give a trial up that half-way does worse than three quarters of the others; never with two objectives."""
    workers: Positive
    """Trials at a time. More than one: each in a process of its own, its clients one after another."""
    sampler_seed: Annotated[int, Field(ge=0)]
    """Of the proposals."""
    search: Annotated[dict[str, Dimension], Field(min_length=1)]
    """What is searched, by the dotted key that it has in an experiment."""
    overrides: Annotated[dict[str, dict[str, Any]], Field(default_factory=dict)]
    """By experiment: values by dotted key that shorten its trials."""
