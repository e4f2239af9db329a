"""What an algorithm is: the hooks that the round loop calls."""

from torch import Tensor

from fedmpq.config import AlgorithmSettings
from fedmpq.federated.allocation import Consensus


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
