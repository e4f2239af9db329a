"""One step of a client's training beside the plain step in PyTorch."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import AT_MOST, Benchmark, Samples, ratio, seconds
from benchmarks.project import CLASSES, FEDMPQ, Scale, Workspace, settings
from fedmpq.config import Experiment
from fedmpq.engine.hardware import resolve_precision, settle_process
from fedmpq.federated.activations import ActivationQuantizer
from fedmpq.federated.allocation import Consensus, prune_and_grow
from fedmpq.federated.client import LocalTraining
from fedmpq.federated.layout import Layout
from fedmpq.federated.worker import quiet_lightning, trainer
from fedmpq.models import build_model
from fedmpq.quantization.codes import scale_of
from fedmpq.seeding import torch_generator

PLAIN = "the plain PyTorch SGD step, same model and precision, one thread"
FLOAT = Benchmark(
    "step",
    "a client's training step, weights quantized, lasso on, activations float",
    PLAIN,
    ratio,
    AT_MOST,
    1.15,
    "x",
)
QUANTIZED = Benchmark("step-activations", "the same with 4-bit activations", PLAIN, ratio, AT_MOST, 1.30, "x")
WARM_UP = 3
BUDGET = 4


class Plain:
    """What anyone would write: a model, cross entropy and SGD."""

    def __init__(self, scale: Scale, precision: str):
        settle_process()
        self.bfloat16 = precision == "bfloat16"
        self.model = network(scale)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9, fused=True)
        self.images, self.labels = batch(scale)

    def step(self) -> None:
        """Train on one batch."""
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            loss = F.cross_entropy(self.model(self.images).float(), self.labels)
        loss.backward()
        self.optimizer.step()

    @torch.inference_mode()
    def evaluate(self) -> None:
        """Evaluate on one batch, in float32."""
        self.model.eval()
        F.cross_entropy(self.model(self.images), self.labels)
        self.model.train()


def network(scale: Scale) -> nn.Module:
    """The network, channels last."""
    return build_model(scale.model, CLASSES, scale.image_size).to(memory_format=torch.channels_last)


def batch(scale: Scale) -> tuple[Tensor, Tensor]:
    """Random images, normalized, and labels."""
    generator, side = torch_generator("benchmark"), scale.image_size
    images = torch.randn(scale.batch, side, side, 3, generator=generator).permute(0, 3, 1, 2)
    return images, torch.randint(CLASSES, (scale.batch,), generator=generator)


class Interleaved:
    """The batches of a training, with a plain step before each; takes the times of both."""

    def __init__(self, data: tuple[Tensor, Tensor], steps: int, plain: Callable[[], Any]):
        self.data, self.steps, self.plain = data, steps, plain
        self.ours: list[float] = []
        self.reference: list[float] = []

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(self.steps):
            self.reference.append(seconds(self.plain))
            started = time.perf_counter()
            yield self.data  # The trainer comes back for the next one when it is done with this one, but for the last.
            self.ours.append(time.perf_counter() - started)


def quantized_training(scale: Scale, activation_bits: int | None) -> LocalTraining:
    """A client of FedMPQ with the bit-widths of the first round."""
    model = network(scale)
    layout = Layout.of(model)
    if activation_bits:
        ActivationQuantizer(model, activation_bits)
    count = len(layout.sizes)
    bits = tuple(prune_and_grow(layout.sizes, BUDGET, Consensus((BUDGET,) * count, (0,) * count), min_bits=1))
    weights = layout.flatten(model).weights.split(layout.sizes)
    scales = torch.stack([scale_of(layer, b) for layer, b in zip(weights, bits, strict=True)])
    experiment = Experiment.model_validate(settings(scale))
    model.train()
    return LocalTraining(model, layout, experiment, bits, scales, FEDMPQ["lambda"])


def compare(scale: Scale, activation_bits: int | None) -> tuple[Samples, Samples]:
    """Seconds of the client's steps, with all that the trainer adds to them, and of plain steps between."""
    precision = resolve_precision("auto", torch.device("cpu"))
    plain = Plain(scale, precision)
    batches = Interleaved((plain.images, plain.labels), WARM_UP + scale.steps + 1, plain.step)
    with quiet_lightning():
        trainer(torch.device("cpu"), precision, epochs=1).fit(quantized_training(scale, activation_bits), batches)
    return Samples(batches.ours[WARM_UP:], "s"), Samples(batches.reference[WARM_UP:], "s")


def measure(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """The two rows."""
    for benchmark, activation_bits in ((FLOAT, None), (QUANTIZED, 4)):
        precision = resolve_precision("auto", torch.device("cpu"))
        yield benchmark.result(*compare(workspace.scale, activation_bits), note=f"{precision}, steps in turn")
