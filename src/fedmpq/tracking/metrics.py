"""The names that MLflow shows. Runs logged live and runs brought in later get theirs from here, so they agree."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

# MLflow groups charts by what stands before the slash, and shows the groups in alphabetical order.
NAMES = {
    "test_accuracy": "test/accuracy",
    "test_loss": "test/loss",
    "device_accuracy": "test/device-accuracy",
    "train_loss": "train/loss",
    "uplink_bytes": "bytes/uplink",
    "downlink_bytes": "bytes/downlink",
    "seconds": "time/seconds",
    "simulated_seconds": "time/simulated-seconds",
    "asked": "clients/asked",
    "answered": "clients/answered",
    "dropped": "clients/dropped",
    "late": "clients/late",
    "rejected": "clients/rejected",
    "failed": "clients/failed",
    "discarded": "clients/discarded",
}
KEYS = {"seed", "round", "algorithm", "alpha"}


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
    named = {NAMES.get(column, f"other/{column}"): row[column] for column in row if column not in KEYS}
    return _finite(named | _budget_bits(bits))


def summary_metrics(metrics: Mapping[str, Any], seed: int) -> dict[str, float]:
    """What is logged of a whole run: `metrics` is the content of its metrics.json."""
    per_round = metrics["bytes_per_client_and_round"]
    return _finite(
        {
            "accuracy/final": metrics["final_accuracy"][f"seed-{seed}"],
            "accuracy/best": metrics["best_accuracy"][f"seed-{seed}"],
            "bits/given": metrics["average_bits"]["given"],
            "bits/left": metrics["average_bits"]["left"],
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
