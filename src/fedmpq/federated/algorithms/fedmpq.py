"""FedMPQ, the algorithm of the paper."""

import math

import torch
from torch import Tensor

from fedmpq.config import FedMPQSettings
from fedmpq.federated.algorithms.base import Algorithm
from fedmpq.federated.allocation import Consensus, prune_and_grow
from fedmpq.quantization.sparsity import prune_bits


class FedMPQ(Algorithm):
    """Bit-widths that differ by layer, learned by sparsity and spread by the pruning-growing rule."""

    settings: FedMPQSettings
    grow = True

    def allocate(self, sizes: list[int], budget: float, consensus: Consensus | None) -> tuple[int, ...]:
        """What the pruning-growing rule makes of the clients' average, at first of uniform bits."""
        uniform = Consensus((math.floor(budget),) * len(sizes), (0,) * len(sizes))
        return tuple(prune_and_grow(sizes, budget, consensus or uniform, self.settings.min_bits, self.grow))

    def regularization(self) -> float:
        """Lambda of the settings."""
        return self.settings.lambda_

    def prune(self, weights: list[Tensor], bits: tuple[int, ...], scales: Tensor) -> tuple[tuple[int, ...], Tensor]:
        """Take sparse most significant bits from each layer."""
        pruned = [
            prune_bits(*layer, self.settings.epsilon, self.settings.min_bits)
            for layer in zip(weights, bits, scales, strict=True)
        ]
        left, left_scales = zip(*pruned, strict=True)
        return left, torch.stack(left_scales)


ALGORITHM = FedMPQ
