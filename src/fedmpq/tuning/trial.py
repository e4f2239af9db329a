"""One trial: the seeds of an experiment side by side, round by round, measured on validation images."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import torch

from fedmpq.config import Execution, Experiment
from fedmpq.data.arrays import Dataset
from fedmpq.data.dirichlet import draw_partition, training_samples, validation_split
from fedmpq.engine.executors import build_executor
from fedmpq.engine.hardware import resolve_precision
from fedmpq.errors import UserError
from fedmpq.federated.layout import Layout
from fedmpq.federated.messages import Bits
from fedmpq.federated.server import Federation
from fedmpq.federated.setup import Setup
from fedmpq.federated.tasks import Executor
from fedmpq.tuning.planes import TopPlanes

Row = dict[str, float]
FULL_PRECISION = 32


def build_setup(
    experiment: Experiment, algorithm: str, alpha: float, seed: int, data: Path, device: torch.device
) -> Setup:
    """A run that trains on images of `data` (prepared arrays) and is measured on those held out for validation.

    Raises:
        UserError: the data are missing or damaged, or cannot be divided so.
    """
    labels, settings = Dataset.load(data).train_labels, experiment.partition
    used = training_samples(labels, experiment.data.train_samples, seed)
    trained, held_out = validation_split(labels[used], experiment.data.validation, seed)
    partition = draw_partition(
        labels,
        settings.clients,
        alpha,
        seed,
        min_samples=settings.min_samples,
        max_redraws=settings.max_redraws,
        samples=used[trained],
    )
    precision = resolve_precision(experiment.training.precision, device)
    return Setup(experiment, algorithm, seed, data, partition, device, precision, held_out=used[held_out])


def run(setups: Sequence[Setup], execution: Execution) -> Iterator[Row]:
    """Train with all seeds, one of `setups` each, and yield a row of numbers after each round.

    Returns:
        Means over the seeds of validation `accuracy` (0 .. 1; with several seeds also `accuracy_std`) and `loss`;
        `bits_given`, `bits_left`, per weight and client; `top_plane`, see `TopPlanes.take`; `uplink_bytes` and
        `downlink_bytes` of a client; `seconds`.

    Raises:
        UserError: too few clients answer, or the validation loss is not finite.
    """
    with ExitStack() as stack:
        runs = [_rounds(setup, stack.enter_context(build_executor(execution, setup))) for setup in setups]
        for rows in zip(*runs, strict=True):
            spread = {"accuracy_std": stdev(row["accuracy"] for row in rows)} if len(rows) > 1 else {}
            yield {name: fmean(row[name] for row in rows) for name in rows[0]} | spread


def _rounds(setup: Setup, executor: Executor) -> Iterator[Row]:
    """What is measured in each round of one seed."""
    layout, count = Layout.of(setup.build_model()[0]), setup.experiment.partition.clients
    planes = TopPlanes(executor, layout)
    for record in Federation(setup, planes).rounds():
        if not math.isfinite(record.loss):
            raise UserError(f"the validation loss is {record.loss} in round {record.round}")
        yield {
            "accuracy": record.accuracy,
            "loss": record.loss,
            "bits_given": _average([client.given for client in record.clients], layout.sizes),
            "bits_left": _average([client.left for client in record.clients], layout.sizes),
            "top_plane": planes.take(),
            "uplink_bytes": record.exchange.uplink_bytes / count,
            "downlink_bytes": record.exchange.downlink_bytes / count,
            "seconds": record.seconds,
        }


def _average(bits: Sequence[Bits], sizes: Sequence[int]) -> float:
    return fmean(np.average(b, weights=sizes) if b else FULL_PRECISION for b in bits)


def summarize(rows: Sequence[Row], final_rounds: int) -> Row:
    """Means of rows of `run`: of bytes over all of them, else over the last `final_rounds`; and how many there are."""
    last = rows[-final_rounds:]
    means = {name: fmean(row[name] for row in (rows if "bytes" in name else last)) for name in last[0]}
    return {**means, "bits_pruned": means["bits_given"] - means["bits_left"], "rounds": len(rows)}
