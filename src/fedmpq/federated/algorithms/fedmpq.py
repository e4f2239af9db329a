"""FedMPQ, the algorithm of the paper."""

import math

import torch
from torch import Tensor

from fedmpq.config import FedMPQSettings
from fedmpq.federated.algorithms.base import Answer, QuantizedTraining
from fedmpq.federated.allocation import Consensus, View, prune_and_grow
from fedmpq.federated.messages import Bits
from fedmpq.quantization.sparsity import prune_bits


class FedMPQ(QuantizedTraining):
    """Bit-widths that differ by layer, learned by sparsity and spread by the pruning-growing rule."""

    settings: FedMPQSettings
    grow = True

    def allocate(self, view: View, budget: float) -> tuple[int, ...]:
        """What the pruning-growing rule makes of the clients' average, at first of uniform bits."""
        uniform = Consensus((math.floor(budget),) * len(view.sizes), (0,) * len(view.sizes))
        start = view.consensus or uniform
        return tuple(prune_and_grow(view.sizes, budget, start, self.settings.min_bits, self.grow))

    def regularization(self) -> float:
        """Lambda of the settings."""
        return self.settings.lambda_

    def answer(self, trained: list[Tensor], received: list[Tensor], most: Bits, scales: Tensor) -> Answer:
        """The layers, without the sparse ones of their most significant bits."""
        settings, quantizer = self.settings, self.quantizer
        layers = zip(trained, most, scales, strict=True)
        pruned = [prune_bits(*layer, quantizer, settings.epsilon, settings.min_bits) for layer in layers]
        left, left_scales = zip(*pruned, strict=True)
        return super().answer(trained, received, left, torch.stack(left_scales))


ALGORITHM = FedMPQ
