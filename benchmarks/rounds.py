"""A whole round, with evaluation, logging and checkpoint, beside what its images cost at least."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from fedmpq.engine.training import SeedRun

from benchmarks.measure import AT_LEAST, AT_MOST, Benchmark, Samples, efficiency, seconds, share
from benchmarks.project import Project, Scale, Workspace
from benchmarks.steps import Plain
from fedmpq.engine.checkpoint import Checkpoint, CheckpointFolder
from fedmpq.engine.hardware import available_cores, resolve_precision
from fedmpq.tracking import Run, Training, round_metrics

ROUND = Benchmark(
    "round",
    "a whole round of 10 clients with evaluation and logging, all cores",
    "images x plain step time / cores",
    efficiency,
    AT_LEAST,
    85,
    "%",
)
LOGGING = Benchmark("logging", "MLflow and files per round", "the round", share, AT_MOST, 2, "%")
PLAIN_STEPS = 6
"""Plain steps, and plain evaluations, between two rounds."""


@dataclass(frozen=True)
class Round:
    """One round, in seconds."""

    total: float
    logging: float
    """Of it, in MLflow and in writing the checkpoint."""


class TimedFolder(CheckpointFolder):
    """Checkpoints whose writing is timed."""

    seconds = 0.0

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint."""
        self.seconds += seconds(lambda: super(TimedFolder, self).save(checkpoint))


def rounds(project: Project, algorithm: str, between: Callable[[], Any]) -> Iterator[Round]:
    """Run what `pipeline.train` runs; `between` is called after each round, when the workers have nothing to do."""
    cell = project.cell(algorithm)
    run = SeedRun(cell, 0)
    run.folder = folder = TimedFolder(run.folder.folder)
    training = Training(cell.name, algorithm, cell.alpha_label, 0, cell.flat_parameters)
    with Run(project.root, training) as tracked:
        started = time.perf_counter()
        for row, bits in run.rounds(project.parameters.execution):
            logged = seconds(lambda row=row, bits=bits: tracked.log_round(round_metrics(row, bits), row["round"]))
            # The checkpoint of this round is written when the next one begins; that of the one before is in it.
            yield Round(time.perf_counter() - started, logged + folder.seconds)
            between()
            folder.seconds, started = 0.0, time.perf_counter()


class Ideal:
    """What the images of a round cost at least: plain steps on one thread, measured between the rounds."""

    def __init__(self, scale: Scale, precision: str):
        self.scale = scale
        self.training = Plain(scale, precision)
        self.evaluation = Plain(scale, "float32")
        self.rounds: list[float] = []

    def sample(self) -> None:
        """Measure once more."""
        scale = self.scale
        train, test = (
            sorted(seconds(action) for _ in range(PLAIN_STEPS))[PLAIN_STEPS // 2]
            for action in (self.training.step, self.evaluation.evaluate)
        )
        images = scale.clients * scale.images * train + scale.test_images * test
        self.rounds.append(images / scale.batch / available_cores())


def measured(workspace: Workspace, algorithm: str) -> tuple[list[Round], list[float]]:
    """The rounds but for the first, and the ideals measured around them."""
    ideal = Ideal(workspace.scale, resolve_precision("auto", torch.device("cpu")))
    ideal.sample()
    found = list(rounds(workspace.project(f"rounds-{algorithm}"), algorithm, ideal.sample))
    return found[1:], ideal.rounds[1:]


def measure(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """The two rows, of FP32, whose step is the plain one; the note has FedMPQ's."""
    (own, own_ideal), (found, ideal) = (measured(workspace, algorithm) for algorithm in ("fedmpq", "fp32"))
    fedmpq = ROUND.result(Samples([r.total for r in own], "s"), Samples(own_ideal, "s"))
    scale = workspace.scale
    note = (
        f"FP32, {scale.clients} x {scale.images} training images, once, divided at alpha 0.5;"
        f" {scale.test_images} test images, counted at the time of a plain forward pass in float32,"
        f" in which they are evaluated. FedMPQ with its dearer step: {fedmpq['value']:.0f} %"
    )
    totals = Samples([r.total for r in found], "s")
    yield ROUND.result(totals, Samples(ideal, "s"), note)
    yield LOGGING.result(Samples([r.logging for r in found], "s"), totals, "one call of MLflow, one checkpoint")
