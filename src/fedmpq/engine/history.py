"""The rounds of a run as rows of rounds.csv and bits.csv, and summed up in run.json."""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from fedmpq.federated.layout import Layout
    from fedmpq.federated.server import RoundRecord

Row = dict[str, Any]
FULL_PRECISION = 32
FINAL_ROUNDS = 5
EVENTS = ("asked", "answered", "dropped", "late", "rejected", "failed", "discarded")
"""How many clients met which fate in a round; discarded are the answers of attempts that were repeated."""


def round_row(seed: int, record: "RoundRecord", before: Row | None) -> Row:
    """The row of rounds.csv that follows `before`; its bytes are sums over all clients and all rounds so far."""
    before, exchange = before or {"uplink_bytes": 0, "downlink_bytes": 0}, record.exchange
    row = {
        "seed": seed,
        "round": record.round,
        "test_accuracy": record.accuracy,
        "test_loss": record.loss,
        "train_loss": record.train_loss,
        "uplink_bytes": before["uplink_bytes"] + exchange.uplink_bytes,
        "downlink_bytes": before["downlink_bytes"] + exchange.downlink_bytes,
        **{event: exchange.counts[event] for event in EVENTS},
        "simulated_seconds": exchange.simulated_seconds,
        "seconds": round(record.seconds, 3),
    }
    return row if record.device_accuracy is None else row | {"device_accuracy": record.device_accuracy}


def bits_rows(seed: int, record: "RoundRecord", layout: "Layout", budgets: Sequence[float]) -> list[Row]:
    """The rows of bits.csv of a round; `budgets` are those of all clients."""
    full = (FULL_PRECISION,) * len(layout.sizes)
    return [
        {
            "seed": seed,
            "round": record.round,
            "client": client.client,
            "budget": budgets[client.client],
            "layer": layer,
            "parameters": size,
            "bits_given": given,
            "bits_left": left,
        }
        for client in record.clients
        for layer, size, given, left in zip(
            layout.layers, layout.sizes, client.given or full, client.left or full, strict=True
        )
    ]


def summarize(rounds: pd.DataFrame, bits: pd.DataFrame, remainder: int) -> Row:
    """The measured part of run.json. Accuracies are 0 .. 1, seconds are of a median round.

    Args:
        rounds: rounds.csv of all seeds.
        bits: bits.csv of all seeds.
        remainder: number of values beside the quantized weights, which are float32.
    """
    accuracies = {f"seed-{seed}": rows.tolist() for seed, rows in rounds.groupby("seed", sort=False)["test_accuracy"]}
    clients = {event: int(rounds[event].sum()) for event in EVENTS}
    sent = sum(clients[event] for event in ("answered", "late", "rejected", "discarded"))
    total = rounds.groupby("seed")[["uplink_bytes", "downlink_bytes"]].last().sum()
    given, left = (int((bits["parameters"] * bits[column]).sum()) for column in ("bits_given", "bits_left"))
    weights, rest = int(bits["parameters"].sum()), remainder * clients["answered"]
    return {
        "final_accuracy": _over_seeds({seed: fmean(found[-FINAL_ROUNDS:]) for seed, found in accuracies.items()}),
        "best_accuracy": _over_seeds({seed: max(found) for seed, found in accuracies.items()}),
        "average_bits": {
            "given": given / weights,
            "left": left / weights,
            "all": (given + FULL_PRECISION * rest) / (weights + rest),
        },
        "bytes_per_client_and_round": {
            "uplink": int(total["uplink_bytes"]) / sent,
            "downlink": int(total["downlink_bytes"]) / clients["asked"],
            "nominal": left / 8 / clients["answered"],
        },
        "seconds_per_round": sorted(rounds["seconds"].tolist())[len(rounds) // 2],
    }


def _over_seeds(values: dict[str, float]) -> Row:
    deviation = stdev(values.values()) if len(values) > 1 else None
    return {"mean": fmean(values.values()), "std": deviation, **values}
