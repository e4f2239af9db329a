"""The server's averages over the answers of a round."""

import torch
from torch import Tensor

from fedmpq.federated.allocation import Consensus, agree
from fedmpq.federated.layout import FlatModel
from fedmpq.federated.messages import Message


class Average:
    """Running averages in double precision; added to in a fixed order, the result is always the same.

    Only sums are held, whatever the number of clients.
    """

    def __init__(self, current: FlatModel, aggregation: str, averaging: str, budgets: list[float]):
        """Begin a round.

        Args:
            current: the global model.
            aggregation: `weights`: the average of the models received. `updates`: `current` plus the
                average of (received - sent), so that the error of coarse codes does not enter it.
            averaging: weight of a client: its number of images (`samples`), or one (`uniform`).
            budgets: of all clients.
        """
        self.current, self.aggregation, self.averaging, self.budgets = current, aggregation, averaging, budgets
        self.sums = [torch.zeros_like(part, dtype=torch.float64) for part in (current.weights, current.remainder)]
        self.total_weight = self.total_samples = self.total_loss = 0.0
        self.bits: list[tuple[int, ...]] = []
        self.deltas: list[tuple[int, ...]] = []
        self.shares: list[float] = []

    def add(self, received: Message, sent: Message) -> None:
        """Add one answer; `sent` is the message that the client started from."""
        weight = received.samples if self.averaging == "samples" else 1
        for total, ours, theirs in zip(self.sums, _parts(sent.model), _parts(received.model), strict=True):
            value = theirs.double()
            total += weight * (value - ours if self.aggregation == "updates" else value)
        self.total_weight += weight
        self.total_samples += received.samples
        self.total_loss += received.samples * received.loss
        if received.bits is not None and sent.bits is not None:
            self.bits.append(received.bits)
            self.deltas.append(tuple(given - left for given, left in zip(sent.bits, received.bits, strict=True)))
            self.shares.append(received.samples * self.budgets[received.client])

    def model(self) -> FlatModel:
        """The new global model."""
        means = [total / self.total_weight for total in self.sums]
        if self.aggregation == "updates":
            means = [mean + old for mean, old in zip(means, _parts(self.current), strict=True)]
        return FlatModel(*(mean.float() for mean in means))

    def consensus(self) -> Consensus | None:
        """The clients' average bit-widths and deltas; None in full precision."""
        return agree(self.bits, self.deltas, self.shares) if self.bits else None

    @property
    def loss(self) -> float:
        """Mean training loss over the clients' images."""
        return self.total_loss / self.total_samples


def _parts(model: FlatModel) -> tuple[Tensor, Tensor]:
    return model.weights, model.remainder
