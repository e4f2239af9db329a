"""The names that MLflow shows. Runs logged live and runs brought in later get theirs from here, so they agree."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fedmpq.config import load_parameters
from fedmpq.engine.results import EVENTS
from fedmpq.errors import UserError

# MLflow groups charts by what stands before the slash.
NAMES = {
    "test_accuracy": "test/accuracy",
    "test_loss": "test/loss",
    "device_accuracy": "test/device-accuracy",
    "train_loss": "train/loss",
    "uplink_bytes": "bytes/uplink",
    "downlink_bytes": "bytes/downlink",
    "seconds": "time/seconds",
    "simulated_seconds": "time/simulated-seconds",
    **{event: f"clients/{event}" for event in EVENTS},
}


_parameters = cache(load_parameters)


@dataclass(frozen=True)
class Training:
    """What a run of MLflow is a run of."""

    experiment: str
    algorithm: str
    alpha: str
    """As params.yaml writes it."""
    seed: int
    parameters: Mapping[str, Any]
    """Everything that determines the result, by dotted key."""
    partition: str = ""
    fingerprint: str = ""
    """Digests as in run.json; by the fingerprint an unfinished run is known again."""

    @property
    def tags(self) -> dict[str, str]:
        """The run's tags; the first three are parameters too."""
        names = ("algorithm", "alpha", "seed", "partition", "fingerprint")
        return {name: str(getattr(self, name)) for name in names}

    def name(self, folder: Path) -> str:
        """E.g. `fedmpq alpha=0.5 seed=0`; and rounds and network if they are not those of params.yaml in `folder`."""
        other = self.changes(folder)
        rounds, network = other.get("training.rounds"), other.get("model.network")
        parts = [f"{self.algorithm} alpha={self.alpha} seed={self.seed}"]
        parts += [rounds and f"{rounds} round{'s' * (rounds != 1)}", network]
        return ", ".join(filter(None, parts))

    def changes(self, folder: Path) -> dict[str, Any]:
        """The parameters that are not as params.yaml in `folder` has them, where it has them at all."""
        usual = _usual(folder, self.experiment, self.algorithm)
        return {key: value for key, value in self.parameters.items() if key in usual and value != usual[key]}


def _usual(folder: Path, experiment: str, algorithm: str) -> dict[str, Any]:
    """The parameters of a training by dotted key; nothing where params.yaml does not say."""
    try:
        return _parameters(folder / "params.yaml").experiment(experiment).flat(algorithm)
    except UserError:
        return {}


def round_metrics(row: Mapping[str, Any], bits: Iterable[Mapping[str, Any]] = ()) -> dict[str, float]:
    """What is logged of one round.

    Args:
        row: the round's row of rounds.csv, as it is written there.
        bits: the round's rows of bits.csv.

    Returns:
        Finite numbers by name: `test/accuracy` (0 .. 1), `bytes/uplink` (bytes so far), `time/seconds`, ...;
        `bits/budget-2` and `bits-left/budget-2` are the average bits per weight that clients of budget 2
        were given, and kept after pruning. A column without a name here becomes `other/<column>`.
    """
    named = {NAMES.get(column, f"other/{column}"): row[column] for column in row if column not in ("seed", "round")}
    return finite(named | _budget_bits(bits))


def summary_metrics(run: Mapping[str, Any], seed: int) -> dict[str, float]:
    """What is logged of a whole run: `run` is the content of its run.json."""
    bits, sent = run["average_bits"], run["bytes_per_client_and_round"]
    return finite(
        {
            "accuracy/final": run["final_accuracy"][f"seed-{seed}"],
            "accuracy/best": run["best_accuracy"][f"seed-{seed}"],
            "bits/given": bits["given"],
            "bits/left": bits["left"],
            "bits/of-all-values": bits["all"],
            "bytes/uplink-per-client-and-round": sent["uplink"],
            "bytes/downlink-per-client-and-round": sent["downlink"],
            "time/seconds-per-round": run["seconds_per_round"],
        }
    )


def finite(values: Mapping[str, Any]) -> dict[str, float]:
    """Numbers only: a diverged loss or an empty cell leaves a gap, where MLflow would draw 1e308."""
    numbers = {name: float(value) for name, value in values.items() if value is not None and not isinstance(value, str)}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _budget_bits(bits: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Average over weights, by budget, of the bits given and left."""
    weights, totals = Counter(), Counter()
    for row in bits:
        for group, column in (("bits", "bits_given"), ("bits-left", "bits_left")):
            name = f"{group}/budget-{row['budget']:g}"
            weights[name] += row["parameters"]
            totals[name] += row["parameters"] * row[column]
    return {name: totals[name] / weights[name] for name in weights}
