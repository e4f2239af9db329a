"""What is computed apart from any training: plain PyTorch, a client's step beside it, packing, allocation of bits."""

import multiprocessing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.measure import AT_MOST, Benchmark, Rows, alternate, seconds
from benchmarks.project import CLASSES, Scale, make
from fedmpq.engine.executors import Sequential
from fedmpq.engine.hardware import keep_memory, resolve_precision
from fedmpq.federated.algorithms import build_algorithm
from fedmpq.federated.allocation import Consensus, View
from fedmpq.federated.layout import Layout
from fedmpq.federated.server import Federation
from fedmpq.federated.tasks import TrainTask
from fedmpq.models import build_model
from fedmpq.quantization.codes import QUANTIZERS
from fedmpq.quantization.packing import pack_layers, unpack_layers
from fedmpq.seeding import numpy_generator, torch_generator

OURS = "a client's training step, weights quantized, lasso on, activations"
PLAIN = "the plain PyTorch SGD step, same model and precision, one thread"
STEPS = {
    None: Benchmark("step", f"{OURS} float", PLAIN, AT_MOST, 1.15, "x"),
    4: Benchmark("step-activations", f"{OURS} of 4 bits", PLAIN, AT_MOST, 1.12, "x"),
}
NUMPY = "numpy.packbits and unpackbits of as many bits"
PACKING = Benchmark("packing", "pack and unpack of a model's codes at mixed bit-widths", NUMPY, AT_MOST, 1.5, "x")
MANY = "for 1,000 clients x 44 layers"
ALLOCATIONS = {
    "fedmpq": Benchmark("allocation", f"pruning-growing {MANY}", "one training step", AT_MOST, 1, "x"),
    "fedmpq_plus": Benchmark("allocation-noise", f"noise-balanced bits {MANY}", "one training step", AT_MOST, 1, "x"),
}


class Plain:
    """What anyone would write: a model, cross entropy and SGD, on one thread."""

    def __init__(self, scale: Scale, precision: str = "auto"):
        torch.set_num_threads(1)
        keep_memory()
        self.precision = resolve_precision(precision, torch.device("cpu"))
        self.model = build_model(scale.network, CLASSES, scale.image_size).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9, fused=True)
        generator, side = torch_generator("benchmark"), scale.image_size
        self.images = torch.randn(scale.batch, side, side, 3, generator=generator).permute(0, 3, 1, 2)
        self.labels = torch.randint(CLASSES, (scale.batch,), generator=generator)

    def step(self, size: int | None = None) -> None:
        """Train on one batch, or on its first `size` images."""
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
            loss = F.cross_entropy(self.model(self.images[:size]).float(), self.labels[:size])
        loss.backward()
        self.optimizer.step()

    @torch.inference_mode()
    def evaluate(self, size: int) -> None:
        """Evaluate on so many images, in float32."""
        self.model.eval()
        F.cross_entropy(self.model(self.images[:size]), self.labels[:size])
        self.model.train()


def plain_loop(scale: Scale, precision: str, clients: list[int], tests: int, cores: int) -> float:
    """Seconds of plain steps on as many images as each of `clients` has, and of evaluation of `tests` images.

    All `cores` have a share of the batches; they work at the same time, and so slow each other.
    """
    steps, evaluations = (
        [min(scale.batch, images - start) for images in counts for start in range(0, images, scale.batch)]
        for counts in (clients, [tests])
    )
    shares = [(scale, precision, steps[core::cores], evaluations[core::cores]) for core in range(cores)]
    context = multiprocessing.get_context("spawn")
    with context.Pool(cores, initializer=context.Barrier(cores).wait) as pool:
        return max(pool.starmap(_loop, shares, chunksize=1))


def _loop(scale: Scale, precision: str, steps: list[int], evaluations: list[int]) -> float:
    plain = Plain(scale, precision)
    for size in {*steps, *evaluations}:  # What is done for the first batch of a size is done once in a training.
        plain.step(size)
    return seconds(lambda: [*map(plain.step, steps), *map(plain.evaluate, evaluations)])


def steps(folder: Path, scale: Scale) -> Rows:
    """A client's steps, from the message that it gets to the one that it sends."""
    plain, one = Plain(scale), replace(scale, clients=1, images=scale.steps * scale.batch)
    for bits, benchmark in STEPS.items():
        executor = Sequential(make(folder / benchmark.name, one, "fedmpq", {"model.activation_bits": bits}).setup(0))
        federation = Federation(executor.worker.setup, executor)
        downlink = federation.downlink(federation.initial, federation.view(federation.initial), 1, 0)
        train = partial(executor.worker.train, TrainTask(1, 0, downlink, cost=0))
        found = alternate(
            lambda train=train: seconds(train) / scale.steps,
            lambda: seconds(plain.step, scale.steps),
            times=scale.repeats,
        )
        yield benchmark.row(*found, f"{plain.precision}, {scale.steps} steps in turn")


def packing(folder: Path, scale: Scale) -> Rows:
    """Packing, ten times at a time: once would be too short."""
    sizes, generator = Layout.of(build_model(scale.network, CLASSES, 32)).sizes, numpy_generator("packing")
    widths = generator.integers(1, 9, len(sizes)).tolist()
    layers = [generator.integers(0, 2**b, size, np.uint8) for size, b in zip(sizes, widths, strict=True)]
    bits = generator.integers(0, 2, int(np.dot(sizes, widths)), np.uint8)
    found = alternate(
        lambda: seconds(lambda: unpack_layers(pack_layers(layers, widths), sizes, widths), 10),
        lambda: seconds(lambda: np.unpackbits(np.packbits(bits)), 10),
        times=100,
    )
    yield PACKING.row(
        *found, f"{len(sizes)} layers, {sum(sizes):,} codes of {len(bits) / sum(sizes):.1f} bits on average"
    )


def allocation(folder: Path, scale: Scale) -> Rows:
    """Allocation to clients of as many budgets, with what the server has to find out about the global model before."""
    generator, plain, experiment = numpy_generator("allocation"), Plain(scale), scale.experiment()
    sizes, values = Layout.of(build_model("resnet44", CLASSES, 32)).sizes, torch_generator("allocation")
    consensus = Consensus(*(tuple(generator.integers(*range, len(sizes)).tolist()) for range in ((1, 9), (0, 4))))
    budgets = generator.uniform(1, 8, 100 * scale.clients).tolist()

    def allocate(name: str) -> float:
        weights = torch.randn(sum(sizes), generator=values).split(sizes)
        quantizer = QUANTIZERS[experiment.quantizer(name)]
        view = View(sizes, list(weights), quantizer, consensus)
        algorithm = build_algorithm(experiment.algorithm(name), quantizer)
        return seconds(lambda: [algorithm.allocate(view, budget) for budget in budgets])

    for name, benchmark in ALLOCATIONS.items():
        found = alternate(partial(allocate, name), lambda: seconds(plain.step), times=3 * scale.repeats)
        yield benchmark.row(*found, "a plain step")
