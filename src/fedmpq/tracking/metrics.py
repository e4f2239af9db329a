"""The names that MLflow shows. Runs logged live and runs brought in later get theirs from here, so they agree."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fedmpq.config import Experiment, load_parameters
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
}
EVENTS = ("asked", "answered", "dropped", "late", "rejected", "failed", "discarded")
NAMES |= {event: f"clients/{event}" for event in EVENTS}


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
        return {name: str(getattr(self, name)) for name in names if getattr(self, name) != ""}

    def name(self, folder: Path) -> str:
        """E.g. `fedmpq alpha=0.5 seed=0`; and rounds and network if they are not those of params.yaml in `folder`."""
        parts = [f"{self.algorithm} alpha={self.alpha} seed={self.seed}"]
        if usual := _sections(folder).get(self.experiment):
            rounds = self.parameters.get("training.rounds", usual.training.rounds)
            network = self.parameters.get("model.network", usual.model.network)
            parts += [f"{rounds} round{'s' * (rounds != 1)}"] if rounds != usual.training.rounds else []
            parts += [network] if network != usual.model.network else []
        return ", ".join(parts)


@cache
def _sections(folder: Path) -> dict[str, Experiment]:
    try:
        return load_parameters(folder / "params.yaml").sections
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
    return _finite(named | _budget_bits(bits))


def summary_metrics(metrics: Mapping[str, Any], seed: int) -> dict[str, float]:
    """What is logged of a whole run: `metrics` is the content of its run.json."""
    per_round = metrics["bytes_per_client_and_round"]
    return _finite(
        {
            "accuracy/final": metrics["final_accuracy"][f"seed-{seed}"],
            "accuracy/best": metrics["best_accuracy"][f"seed-{seed}"],
            "bits/given": metrics["average_bits"]["given"],
            "bits/left": metrics["average_bits"]["left"],
            "bits/of-all-values": metrics["average_bits"]["all"],
            "bytes/uplink-per-client-and-round": per_round["uplink"],
            "bytes/downlink-per-client-and-round": per_round["downlink"],
            "time/seconds-per-round": metrics["seconds_per_round"],
        }
    )


def _budget_bits(bits: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Average over weights, by budget, of the bits given and left."""
    weights: dict[str, float] = defaultdict(float)
    totals: dict[str, float] = defaultdict(float)
    for row in bits:
        for group, column in (("bits", "bits_given"), ("bits-left", "bits_left")):
            name = f"{group}/budget-{row['budget']:g}"
            weights[name] += row["parameters"]
            totals[name] += row["parameters"] * row[column]
    return {name: totals[name] / weights[name] for name in weights}


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    """Numbers only: a diverged loss or an empty cell leaves a gap, where MLflow would draw 1e308."""
    numbers = {name: float(value) for name, value in values.items() if value is not None and not isinstance(value, str)}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}
