"""The rounds of a run as rows: of rounds.csv and bits.csv, and summed up in metrics.json."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

from fedmpq.federated.layout import Layout
from fedmpq.federated.server import ClientRecord, RoundRecord

Row = dict[str, Any]
FULL_PRECISION = 32
FINAL_ROUNDS = 5


@dataclass
class History:
    """What the rounds of one seed have left so far."""

    seed: int
    rounds: list[Row] = field(default_factory=list)
    """Rows of rounds.csv; bytes are sums over all clients and all rounds so far."""
    bits: list[Row] = field(default_factory=list)
    """Rows of bits.csv."""
    nominal_bits: float = 0.0
    """Bits x parameters of all answers so far."""

    def append(self, record: RoundRecord, layout: Layout) -> None:
        """Add the rows of one more round."""
        before = self.rounds[-1] if self.rounds else {"uplink_bytes": 0, "downlink_bytes": 0}
        row = {
            "seed": self.seed,
            "round": record.round,
            "test_accuracy": record.accuracy,
            "test_loss": record.loss,
            "train_loss": record.train_loss,
            "uplink_bytes": before["uplink_bytes"] + record.uplink_bytes,
            "downlink_bytes": before["downlink_bytes"] + record.downlink_bytes,
            "asked": len(record.clients) + len(record.failures),
            "answered": len(record.clients),
            "seconds": round(record.seconds, 3),
        }
        if record.device_accuracy is not None:
            row["device_accuracy"] = record.device_accuracy
        self.rounds.append(row)
        self.nominal_bits += record.nominal_bits
        for client in record.clients:
            self.bits += _bit_rows(self.seed, record.round, client, layout)

    def rows_of_round(self, number: int) -> list[Row]:
        """The rows of bits.csv of round `number`."""
        return [row for row in self.bits if row["round"] == number]


def _bit_rows(seed: int, round: int, client: ClientRecord, layout: Layout) -> list[Row]:
    full = (FULL_PRECISION,) * len(layout.layers)
    layers = zip(layout.layers, layout.sizes, client.given or full, client.left or full, strict=True)
    return [
        {
            "seed": seed,
            "round": round,
            "client": client.client,
            "budget": client.budget,
            "layer": layer,
            "parameters": size,
            "bits_given": given,
            "bits_left": left,
        }
        for layer, size, given, left in layers
    ]


def summarize(histories: Sequence[History]) -> Row:
    """The measured part of metrics.json. Accuracies are 0 .. 1, seconds are of a median round."""
    seconds = sorted(row["seconds"] for history in histories for row in history.rounds)
    return {
        "final_accuracy": _over_seeds(histories, lambda accuracies: fmean(accuracies[-FINAL_ROUNDS:])),
        "best_accuracy": _over_seeds(histories, max),
        "average_bits": {name: _average_bits(histories, f"bits_{name}") for name in ("given", "left")},
        "bytes_per_client_and_round": _bytes(histories),
        "seconds_per_round": seconds[len(seconds) // 2],
    }


def _over_seeds(histories: Sequence[History], measure: Callable[[list[float]], float]) -> Row:
    values = {f"seed-{h.seed}": measure([row["test_accuracy"] for row in h.rounds]) for h in histories}
    deviation = stdev(values.values()) if len(values) > 1 else None
    return {"mean": fmean(values.values()), "std": deviation, **values}


def _average_bits(histories: Sequence[History], column: str) -> float:
    rows = [row for history in histories for row in history.bits]
    return sum(row[column] * row["parameters"] for row in rows) / sum(row["parameters"] for row in rows)


def _bytes(histories: Sequence[History]) -> Row:
    asked = sum(row["asked"] for history in histories for row in history.rounds)
    answered = sum(row["answered"] for history in histories for row in history.rounds)
    return {
        "uplink": sum(history.rounds[-1]["uplink_bytes"] for history in histories) / answered,
        "downlink": sum(history.rounds[-1]["downlink_bytes"] for history in histories) / asked,
        "nominal": sum(history.nominal_bits for history in histories) / 8 / answered,
    }
