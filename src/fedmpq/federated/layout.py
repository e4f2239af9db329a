"""What of a model is quantized, and a model as two flat vectors.

`weights` (P,) are the weights of all convolutions and fully connected layers, one layer after
another; `remainder` (R,) is every other floating-point parameter or buffer (biases, batch norm,
ranges of activations), which travels as float32. Averages, codes and messages are then operations
on vectors, whatever the network.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from fedmpq.errors import UserError

QUANTIZED_LAYERS = (nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the tensors of a model, in the order of its modules."""

    weights: dict[str, torch.Size]
    remainder: dict[str, torch.Size]

    @classmethod
    def of(cls, model: nn.Module) -> "Layout":
        """The layout of `model`.

        Raises:
            UserError: the model has no layer that is quantized.
        """
        state = model.state_dict(keep_vars=True)
        # A tensor that layers share stands under its first name alone.
        first_names = set({id(tensor): key for key, tensor in reversed(state.items())}.values())
        state = {key: tensor for key, tensor in state.items() if key in first_names}
        quantized = {id(m.weight) for m in model.modules() if isinstance(m, QUANTIZED_LAYERS)}
        weights = {key: tensor.shape for key, tensor in state.items() if id(tensor) in quantized}
        if not weights:
            raise UserError("model: it has no Conv2d or Linear layer; allowed: a model with at least one")
        floats = {key: tensor.shape for key, tensor in state.items() if tensor.is_floating_point()}
        return cls(weights, {key: shape for key, shape in floats.items() if key not in weights})

    @cached_property
    def layers(self) -> list[str]:
        """Names of the quantized layers (L)."""
        return [key.removesuffix(".weight") for key in self.weights]

    @cached_property
    def sizes(self) -> list[int]:
        """Number of weights of each quantized layer, P_l (L)."""
        return [shape.numel() for shape in self.weights.values()]

    @cached_property
    def remainder_size(self) -> int:
        """Number of float32 values beside the quantized weights, R."""
        return sum(shape.numel() for shape in self.remainder.values())

    @cached_property
    def digest(self) -> bytes:
        """8 bytes that tell layouts of other names or shapes apart."""
        parts = (self.weights, self.remainder)
        text = repr([[(key, tuple(shape)) for key, shape in part.items()] for part in parts])
        return hashlib.sha256(text.encode()).digest()[:8]

    def flatten(self, model: nn.Module) -> "FlatModel":
        """A copy of the model's values on the CPU."""
        state = model.state_dict()
        return FlatModel(*(_joined([state[key] for key in part]) for part in (self.weights, self.remainder)))

    def load(self, flat: "FlatModel", model: nn.Module) -> None:
        """Copy the values of `flat` into `model`."""
        model.load_state_dict(self.state_dict(flat), strict=False)

    def state_dict(self, flat: "FlatModel") -> dict[str, Tensor]:
        """The tensors of `flat` by name, as copies."""
        parts = ((self.weights, flat.weights), (self.remainder, flat.remainder))
        return {key: values.clone() for part, vector in parts for key, values in self.split(vector, part)}

    @staticmethod
    def split(vector: Tensor, part: dict[str, torch.Size]) -> Iterator[tuple[str, Tensor]]:
        """The tensors of which `vector` is made, as views."""
        pieces = vector.split([shape.numel() for shape in part.values()])
        return ((key, piece.view(shape)) for (key, shape), piece in zip(part.items(), pieces, strict=True))


@dataclass(frozen=True)
class FlatModel:
    """A model as the vectors `weights` (P,) and `remainder` (R,), float32 on the CPU."""

    weights: Tensor
    remainder: Tensor

    def is_finite(self) -> bool:
        """Whether no value is NaN or infinite."""
        return bool(self.weights.isfinite().all() and self.remainder.isfinite().all())


def _joined(tensors: list[Tensor]) -> Tensor:
    if not tensors:
        return torch.zeros(0)
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).float().cpu()
