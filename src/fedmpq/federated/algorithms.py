"""The algorithms. They share one engine and differ in who decides bit-widths and what clients train."""

import math

import torch
from torch import Tensor

from fedmpq.config import MAX_BITS, AlgorithmSettings, FedMPQSettings
from fedmpq.federated.allocation import Consensus, prune_and_grow
from fedmpq.quantization.sparsity import prune_bits


class Algorithm:
    """The hooks of the round loop: full precision and nothing pruned, unless they say otherwise."""

    quantizes_activations = True
    """Whether clients train with activations of `activation_bits`."""

    def __init__(self, settings: AlgorithmSettings):
        self.settings = settings

    def allocate(self, sizes: list[int], budget: float, consensus: Consensus | None) -> tuple[int, ...] | None:
        """On the server: the bit-widths of a client's layers for the coming round.

        Args:
            sizes: number of weights of each layer (L).
            budget: the client's average bits per weight, 1 .. 8.
            consensus: of the clients of the round before; None in the first round.

        Returns:
            L bit-widths, 1 .. 8; None for full precision.
        """
        return None

    def regularization(self) -> float:
        """On the client: lambda, the strength of the group Lasso on bit planes; 0: none."""
        return 0.0

    def prune(self, weights: list[Tensor], bits: tuple[int, ...], scales: Tensor) -> tuple[tuple[int, ...], Tensor]:
        """On the client, after training: the bit-widths (L) and scales (L,) that are left of those given.

        Args:
            weights: the layers (L), full precision.
            bits: the bit-widths given (L).
            scales: the scales after training (L,).
        """
        return bits, scales


class FP32(Algorithm):
    """FedAvg, no quantization."""

    quantizes_activations = False


class FPQ8(Algorithm):
    """Every layer of every client at 8 bits."""

    def allocate(self, sizes: list[int], budget: float, consensus: Consensus | None) -> tuple[int, ...]:
        """8 bits for each layer."""
        return (MAX_BITS,) * len(sizes)


class AQFL(Algorithm):
    """Every layer of a client at the whole bits of its budget."""

    def allocate(self, sizes: list[int], budget: float, consensus: Consensus | None) -> tuple[int, ...]:
        """The whole bits of the budget for each layer."""
        return (math.floor(budget),) * len(sizes)


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


class Pruning(FedMPQ):
    """FedMPQ whose server takes bits but never gives one back."""

    grow = False


ALGORITHMS: dict[str, type[Algorithm]] = {
    "fp32": FP32,
    "fpq8": FPQ8,
    "aqfl": AQFL,
    "fedmpq": FedMPQ,
    "pruning": Pruning,
}
