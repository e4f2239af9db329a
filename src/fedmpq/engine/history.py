"""The rounds of a run as rows: of rounds.csv and bits.csv, and summed up in run.json."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedmpq.federated.server import RoundRecord

Row = dict[str, Any]
ROUND = itemgetter("round")
FULL_PRECISION = 32
FINAL_ROUNDS = 5
EVENTS = ("asked", "answered", "dropped", "late", "rejected", "failed", "discarded")
"""How many clients met which fate in a round; discarded are the answers of attempts that were repeated."""


@dataclass
class History:
    """What the rounds of one seed have left so far."""

    seed: int
    budgets: list[float]
    """Of all clients."""
    layers: list[str]
    """Names of the quantized layers (L)."""
    sizes: list[int]
    """Number of weights of each layer (L)."""
    rounds: list[Row] = field(default_factory=list)
    """Rows of rounds.csv; bytes are sums over all clients and all rounds so far."""
    clients: list[Row] = field(default_factory=list)
    """For each round, ascending, and client: `round`, `client`, bits `given` and `left` (L)."""
    remainder: int = 0
    """Number of values beside the quantized weights, which are float32 (R)."""

    def append(self, record: "RoundRecord") -> None:
        """Add one more round."""
        before = self.rounds[-1] if self.rounds else {"uplink_bytes": 0, "downlink_bytes": 0}
        exchange = record.exchange
        row = {
            "seed": self.seed,
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
        if record.device_accuracy is not None:
            row["device_accuracy"] = record.device_accuracy
        self.rounds.append(row)
        full = (FULL_PRECISION,) * len(self.layers)
        self.clients += [
            {"round": record.round, "client": c.client, "given": c.given or full, "left": c.left or full}
            for c in record.clients
        ]

    def bits(self, round: int | None = None) -> Iterator[Row]:
        """Rows of bits.csv, of one round or of all."""
        clients = self.clients
        if round is not None:
            clients = clients[bisect_left(clients, round, key=ROUND) : bisect_right(clients, round, key=ROUND)]
        for client in clients:
            for index, layer in enumerate(self.layers):
                yield {
                    "seed": self.seed,
                    "round": client["round"],
                    "client": client["client"],
                    "budget": self.budgets[client["client"]],
                    "layer": layer,
                    "parameters": self.sizes[index],
                    "bits_given": client["given"][index],
                    "bits_left": client["left"][index],
                }

    def weighted_bits(self, which: str) -> int:
        """Sum over rounds, clients and layers of bits `given` or `left` x weights."""
        return sum(b * size for client in self.clients for b, size in zip(client[which], self.sizes, strict=True))


def summarize(histories: Sequence[History]) -> Row:
    """The measured part of run.json. Accuracies are 0 .. 1, seconds are of a median round."""
    seconds = sorted(row["seconds"] for history in histories for row in history.rounds)
    return {
        "final_accuracy": _over_seeds(histories, lambda accuracies: fmean(accuracies[-FINAL_ROUNDS:])),
        "best_accuracy": _over_seeds(histories, max),
        "average_bits": _average_bits(histories),
        "bytes_per_client_and_round": _bytes(histories),
        "seconds_per_round": seconds[len(seconds) // 2],
    }


def _over_seeds(histories: Sequence[History], measure: Callable[[list[float]], float]) -> Row:
    values = {f"seed-{h.seed}": measure([row["test_accuracy"] for row in h.rounds]) for h in histories}
    deviation = stdev(values.values()) if len(values) > 1 else None
    return {"mean": fmean(values.values()), "std": deviation, **values}


def _average_bits(histories: Sequence[History]) -> Row:
    weights, rest = (sum(len(h.clients) * count(h) for h in histories) for count in (_weights, lambda h: h.remainder))
    given, left = (sum(history.weighted_bits(which) for history in histories) for which in ("given", "left"))
    return {"given": given / weights, "left": left / weights, "all": (given + FULL_PRECISION * rest) / (weights + rest)}


def _weights(history: History) -> int:
    return sum(history.sizes)


def _bytes(histories: Sequence[History]) -> Row:
    counts = Counter()
    for history in histories:
        for row in history.rounds:
            counts.update({event: row[event] for event in EVENTS})
    sent = counts["answered"] + counts["late"] + counts["rejected"] + counts["discarded"]
    return {
        "uplink": sum(history.rounds[-1]["uplink_bytes"] for history in histories) / sent,
        "downlink": sum(history.rounds[-1]["downlink_bytes"] for history in histories) / counts["asked"],
        "nominal": sum(history.weighted_bits("left") for history in histories) / 8 / counts["answered"],
    }
