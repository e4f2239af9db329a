"""What is computed on one core, each by itself: a client's training step, packing of codes, allocation of bits."""

from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from benchmarks.measure import AT_MOST, Benchmark, Rows, alternate, seconds
from benchmarks.project import CLASSES, Scale
from fedmpq.engine.hardware import keep_memory, resolve_precision
from fedmpq.federated.activations import ActivationQuantizer
from fedmpq.federated.allocation import Consensus, prune_and_grow
from fedmpq.federated.client import LocalTraining
from fedmpq.federated.layout import Layout
from fedmpq.federated.trainer import quiet_lightning, trainer
from fedmpq.models import build_model
from fedmpq.quantization.codes import QUANTIZERS
from fedmpq.quantization.packing import pack_layers, unpack_layers
from fedmpq.seeding import numpy_generator, torch_generator

OURS = "a client's training step, weights quantized, lasso on, activations float"
PLAIN = "the plain PyTorch SGD step, same model and precision, one thread"
NUMPY = "numpy.packbits and unpackbits of as many bits"
FLOAT = Benchmark("step", OURS, PLAIN, AT_MOST, 1.15, "x")
QUANTIZED = Benchmark("step-activations", "the same with 4-bit activations", PLAIN, AT_MOST, 1.30, "x")
PACKING = Benchmark("packing", "pack and unpack of a model's codes at mixed bit-widths", NUMPY, AT_MOST, 1.5, "x")
ALLOCATION = Benchmark("allocation", "allocation for 1,000 clients x 44 layers", "one training step", AT_MOST, 1, "x")
CPU = torch.device("cpu")
BITS = 4
"""Of the weights of every layer; what a step costs does not depend on it."""


class Plain:
    """What anyone would write: a model, cross entropy and SGD."""

    def __init__(self, scale: Scale, precision: str = "auto"):
        torch.set_num_threads(1)
        keep_memory()
        self.scale, self.precision = scale, resolve_precision(precision, CPU)
        self.model = build_model(scale.network, CLASSES, scale.image_size).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9, fused=True)
        generator, side = torch_generator("benchmark"), scale.image_size
        self.images = torch.randn(scale.batch, side, side, 3, generator=generator).permute(0, 3, 1, 2)
        self.labels = torch.randint(CLASSES, (scale.batch,), generator=generator)

    def step(self) -> None:
        """Train on one batch."""
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
            loss = F.cross_entropy(self.model(self.images).float(), self.labels)
        loss.backward()
        self.optimizer.step()

    @torch.inference_mode()
    def evaluate(self) -> None:
        """Evaluate on one batch, in float32."""
        self.model.eval()
        F.cross_entropy(self.model(self.images), self.labels)
        self.model.train()


def client_step(plain: Plain, activation_bits: int | None) -> float:
    """Mean seconds of a step of a client of FedMPQ, with all that the trainer adds to it."""
    scale, experiment, model = plain.scale, plain.scale.experiment(), deepcopy(plain.model)
    layout = Layout.of(model)
    if activation_bits:
        ActivationQuantizer(model, activation_bits)
    quantizer = QUANTIZERS[experiment.quantizer("fedmpq")]
    weights = layout.flatten(model).weights.split(layout.sizes)
    scales = quantizer.scales(weights, [BITS] * len(weights))
    settings, bits = experiment.training, (BITS,) * len(weights)
    strength = experiment.algorithm("fedmpq").lambda_
    client = LocalTraining(model, layout, settings, quantizer, bits, scales, strength)
    batches = DataLoader([(plain.images, plain.labels)] * scale.steps, batch_size=None)
    with quiet_lightning():
        fit = trainer(CPU, plain.precision, epochs=1).fit
        return seconds(lambda: fit(client, batches)) / scale.steps


def steps(folder: Path, scale: Scale) -> Rows:
    """The two rows on a client's steps."""
    plain = Plain(scale)
    for benchmark, activation_bits in ((FLOAT, None), (QUANTIZED, 4)):
        ours = partial(client_step, plain, activation_bits)
        found = alternate(ours, partial(seconds, plain.step, scale.steps), times=scale.repeats)
        yield benchmark.row(*found, f"{plain.precision}, {scale.steps} steps in turn")


def packing(folder: Path, scale: Scale) -> Rows:
    """The row on packing."""
    sizes, generator = Layout.of(build_model(scale.network, CLASSES, 32)).sizes, numpy_generator("packing")
    widths = generator.integers(1, 9, len(sizes)).tolist()
    layers = [generator.integers(0, 2**b, size, np.uint8) for size, b in zip(sizes, widths, strict=True)]
    bits = generator.integers(0, 2, int(np.dot(sizes, widths)), np.uint8)
    found = alternate(  # Ten at a time: once would be too short.
        lambda: seconds(lambda: unpack_layers(pack_layers(layers, widths), sizes, widths), 10),
        lambda: seconds(lambda: np.unpackbits(np.packbits(bits)), 10),
        times=100,
    )
    note = f"{len(sizes)} layers, {sum(sizes):,} codes of {len(bits) / sum(sizes):.1f} bits on average"
    yield PACKING.row(*found, note)


def allocation(folder: Path, scale: Scale) -> Rows:
    """The row on allocation: a budget for each client, and layers that differ in all that the rule looks at."""
    generator, plain = numpy_generator("allocation"), Plain(scale)
    sizes = Layout.of(build_model("resnet44", CLASSES, 32)).sizes
    agreed = (generator.integers(low, high, len(sizes)).tolist() for low, high in ((1, 9), (0, 4)))
    consensus, budgets = Consensus(*map(tuple, agreed)), generator.uniform(1, 8, 100 * scale.clients).tolist()
    ours = partial(seconds, lambda: [prune_and_grow(sizes, budget, consensus, min_bits=1) for budget in budgets])
    yield ALLOCATION.row(*alternate(ours, partial(seconds, plain.step), times=3 * scale.repeats), "a plain step")
