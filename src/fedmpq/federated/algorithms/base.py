"""What an algorithm is: the hooks that the round loop calls."""

from typing import NamedTuple

from torch import Tensor

from fedmpq.config import AlgorithmSettings, QuantizedSettings
from fedmpq.federated.allocation import View
from fedmpq.federated.messages import Bits
from fedmpq.quantization.codes import Quantizer
from fedmpq.quantization.rounding import Coder, Nearest


class Answer(NamedTuple):
    """What a client sends back, before it is rounded."""

    values: list[Tensor]
    """Weights or their changes, a tensor a layer (L), full precision."""
    bits: Bits
    """Bit-width of each layer (L); None: full precision."""
    scales: Tensor | None
    """Scale of each layer (L,); None: full precision."""


class Algorithm:
    """The hooks of the round loop: full precision and nothing pruned, unless they say otherwise."""

    Settings = AlgorithmSettings
    """The type of `settings`."""
    quantizes_activations = True
    """Whether clients train with activations of `activation_bits`."""
    calibration = 0
    """Images on which each client measures statistics of batch norm for the new global model; 0: averages serve."""
    sends_updates = False
    """Whether clients send the change of their weights instead of the weights."""

    def __init__(self, settings: AlgorithmSettings, quantizer: Quantizer):
        self.settings, self.quantizer = settings, quantizer

    def allocate(self, view: View, budget: float) -> Bits:
        """On the server: the bit-widths of a client's layers for the coming round.

        Args:
            view: of the global model and the round before.
            budget: the client's average bits per weight, 1 .. 8.

        Returns:
            L bit-widths, 1 .. 8; None for full precision.
        """
        return None

    def regularization(self) -> float:
        """On the client: lambda, the strength of the group Lasso on bit planes; 0: none."""
        return 0.0

    def answer_bits(self, given: Bits, layers: int, budget: float) -> Bits:
        """The most bits that each layer of an answer may have, to what was `given`; None: full precision."""
        return given

    def answer(self, trained: list[Tensor], received: list[Tensor], most: Bits, scales: Tensor | None) -> Answer:
        """On the client, after training: what it sends.

        Args:
            trained: the layers (L), full precision.
            received: the layers that it started from (L).
            most: what `answer_bits` allows.
            scales: those after training (L,); None if it trained in full precision.
        """
        return Answer(trained, most, scales)

    def coder(self, *key: int | str) -> Coder:
        """How an answer is rounded, by a key of seed, round and client, which both sides know."""
        return Nearest(self.quantizer)


class QuantizedTraining(Algorithm):
    """Clients train with quantized weights, and send these, or their change, quantized."""

    Settings = QuantizedSettings

    @property
    def sends_updates(self) -> bool:
        """What the settings say."""
        return self.settings.uplink == "updates"

    def answer(self, trained: list[Tensor], received: list[Tensor], most: Bits, scales: Tensor) -> Answer:
        """The layers with the scales that they had in training, or their changes."""
        if not self.sends_updates:
            return Answer(trained, most, scales)
        values = changes(trained, received)
        return Answer(values, most, self.quantizer.scales(values, most))


def changes(trained: list[Tensor], received: list[Tensor]) -> list[Tensor]:
    """What training has added to each layer."""
    return [new - old for new, old in zip(trained, received, strict=True)]
