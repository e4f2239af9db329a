"""FedPAQ (Reisizadeh et al. 2020): training in full precision, the update quantized without bias."""

import math

import torch
from torch import Tensor

from fedmpq.federated.algorithms.base import Algorithm, Answer, changes
from fedmpq.federated.messages import Bits
from fedmpq.quantization.codes import full_range
from fedmpq.quantization.rounding import Coder, Stochastic
from fedmpq.seeding import torch_generator


class FedPAQ(Algorithm):
    """Float32 to the client; back comes the change of the weights at the whole bits of the client's budget."""

    quantizes_activations = False
    sends_updates = True

    def answer_bits(self, given: Bits, layers: int, budget: float) -> tuple[int, ...]:
        """The whole bits of the budget for each layer."""
        return (math.floor(budget),) * layers

    def answer(self, trained: list[Tensor], received: list[Tensor], most: Bits, scales: Tensor | None) -> Answer:
        """The change of each layer."""
        values = changes(trained, received)
        return Answer(values, most, torch.stack([self.scale(change) for change in values]))

    def scale(self, change: Tensor) -> Tensor:
        """Scale of one layer's change: no value may lie outside, or the mean would be wrong."""
        return full_range(change, 0)

    def coder(self, *key: int | str) -> Coder:
        """A stochastic uniform quantizer."""
        return Stochastic(torch_generator(*key))


ALGORITHM = FedPAQ
