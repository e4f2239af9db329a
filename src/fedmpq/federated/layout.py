"""What of a model is quantized, and a model as two flat vectors.

`weights` (P,) are all parameters of two or more dimensions (of convolutions, fully connected layers, attention,
embeddings), one layer after another, but for those that the user excludes; `remainder` (R,) is every other
floating-point parameter or buffer (biases, batch norm, ranges of activations), which travels as float32. Averages,
codes and messages are then operations on vectors, whatever the network.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

import torch
from torch import Tensor, nn

from fedmpq.errors import UserError


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the tensors of a model, in the order of its modules."""

    weights: dict[str, torch.Size]
    remainder: dict[str, torch.Size]

    @classmethod
    def of(cls, model: nn.Module, full_precision: Sequence[str] = ()) -> "Layout":
        """The layout of `model`.

        Args:
            model: a tensor that layers share stands under its first name alone.
            full_precision: layers or parameters that are not quantized, by name or pattern (`encoder.*`).

        Raises:
            UserError: nothing is left to be quantized, or a pattern fits nothing.
        """
        first_names = {id(tensor): key for key, tensor in reversed(model.state_dict(keep_vars=True).items())}
        state = {key: tensor for key, tensor in model.state_dict(keep_vars=True).items() if key in first_names.values()}
        floats = {key: tensor.shape for key, tensor in state.items() if tensor.is_floating_point()}
        matrices = [key for key, shape in floats.items() if len(shape) > 1 and isinstance(state[key], nn.Parameter)]
        excluded = {name: [key for key in matrices if _fits(key, name)] for name in full_precision}
        if idle := [name for name, keys in excluded.items() if not keys]:
            raise UserError(
                f"model.full_precision: {idle[0]!r} fits no layer; allowed: {', '.join(map(_layer, matrices))}"
            )
        left = [key for key in matrices if not any(key in keys for keys in excluded.values())]
        if not left:
            raise UserError(
                "model: nothing of it is quantized; allowed: a model with weights of two dimensions or more"
            )
        return cls({key: floats[key] for key in left}, {key: floats[key] for key in floats if key not in left})

    @cached_property
    def layers(self) -> list[str]:
        """Names of the quantized layers (L)."""
        return [_layer(key) for key in self.weights]

    @cached_property
    def sizes(self) -> list[int]:
        """Number of weights of each quantized layer, P_l (L)."""
        return [shape.numel() for shape in self.weights.values()]

    @cached_property
    def remainder_size(self) -> int:
        """Number of float32 values beside the quantized weights, R."""
        return sum(shape.numel() for shape in self.remainder.values())

    def describe(self, model: nn.Module) -> str:
        """One line: how much of `model` is quantized, and what is not."""
        kinds = {name: type(module).__name__ for name, module in model.named_modules()}
        places = (key.rpartition(".") for key in self.remainder)
        rest = dict.fromkeys(f"{kinds.get(owner, owner)}.{name}" for owner, _, name in places)
        quantized = sum(self.sizes)
        total = quantized + self.remainder_size
        return (
            f"{len(self.sizes)} layers, {100 * quantized / total:.1f} % of {total:,} values quantized"
            f"; not: {', '.join(rest) or 'none'}"
        )

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


def _layer(key: str) -> str:
    return key.removesuffix(".weight")


def _fits(key: str, pattern: str) -> bool:
    return fnmatchcase(key, pattern) or fnmatchcase(_layer(key), pattern)


def _joined(tensors: list[Tensor]) -> Tensor:
    if not tensors:
        return torch.zeros(0)
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).float().cpu()
