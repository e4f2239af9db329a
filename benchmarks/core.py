"""Packing of codes and allocation of bits, each by itself."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.measure import AT_MOST, Benchmark, Samples, alternate, ratio, seconds
from benchmarks.project import CLASSES, Workspace
from benchmarks.steps import Plain
from fedmpq.engine.hardware import resolve_precision
from fedmpq.federated.allocation import Consensus, prune_and_grow
from fedmpq.federated.layout import Layout
from fedmpq.models import build_model
from fedmpq.quantization.packing import pack_layers, unpack_layers
from fedmpq.seeding import numpy_generator

PACKING = Benchmark(
    "packing",
    "pack and unpack of a model's codes at mixed bit-widths",
    "numpy.packbits and unpackbits of as many bits",
    ratio,
    AT_MOST,
    1.5,
    "x",
)
ALLOCATION = Benchmark(
    "allocation", "allocation for 1,000 clients x 44 layers", "one training step", ratio, AT_MOST, 1, "x"
)
AT_ONCE = 10
"""Times that a model is packed for one measurement: once would be too short."""


def packing(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """The row on packing."""
    sizes, generator = layer_sizes(workspace.scale.model), numpy_generator("packing")
    widths = generator.integers(1, 9, len(sizes)).tolist()
    layers = [generator.integers(0, 2**b, size, np.uint8) for size, b in zip(sizes, widths, strict=True)]
    bits = generator.integers(0, 2, sum(size * b for size, b in zip(sizes, widths, strict=True)), np.uint8)

    def ours() -> None:
        for _ in range(AT_ONCE):
            unpack_layers(pack_layers(layers, widths), sizes, widths)

    def reference() -> None:
        for _ in range(AT_ONCE):
            np.unpackbits(np.packbits(bits))

    found = alternate(lambda: seconds(ours), lambda: seconds(reference), times=workspace.scale.short_repeats)
    note = f"{len(sizes)} layers, {sum(sizes):,} codes of {len(bits) / sum(sizes):.1f} bits on average"
    yield PACKING.result(*(Samples([1000 * value / AT_ONCE for value in values], "ms") for values in found), note)


def allocation(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """The row on allocation: a budget for each client, and layers that differ in all that the rule looks at."""
    scale, generator = workspace.scale, numpy_generator("allocation")
    sizes = layer_sizes("resnet44")
    agreed = (generator.integers(low, high, len(sizes)).tolist() for low, high in ((1, 9), (0, 4)))
    consensus = Consensus(*map(tuple, agreed))
    budgets = generator.uniform(1, 8, scale.many_clients).tolist()

    def allocate() -> None:
        for budget in budgets:
            prune_and_grow(sizes, budget, consensus, min_bits=1)

    plain = Plain(scale, resolve_precision("auto", torch.device("cpu")))
    found = alternate(lambda: seconds(allocate), lambda: seconds(plain.step), times=3 * scale.repeats)
    yield ALLOCATION.result(*(Samples([1000 * value for value in values], "ms") for values in found), "a plain step")


def layer_sizes(model: str) -> list[int]:
    """Number of weights of each layer of a network for 32 x 32 pixels."""
    return Layout.of(build_model(model, CLASSES, 32)).sizes
