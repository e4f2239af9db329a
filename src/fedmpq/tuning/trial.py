"""One trial: the seeds of an experiment side by side, round by round, measured on validation images."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch

from fedmpq.config import Execution
from fedmpq.engine.executors import build_executor
from fedmpq.engine.results import FULL_PRECISION
from fedmpq.errors import UserError
from fedmpq.federated.layout import Layout
from fedmpq.federated.messages import Bits, Kind, RejectedMessage, decode
from fedmpq.federated.server import Federation
from fedmpq.federated.setup import Setup
from fedmpq.federated.tasks import Executor, Task, TrainTask
from fedmpq.quantization.codes import FULL_RANGE
from fedmpq.quantization.sparsity import top_plane_share

Row = dict[str, float]


def run(setups: Sequence[Setup], execution: Execution) -> Iterator[Row]:
    """Train with all seeds, one of `setups` each, and yield a row of numbers after each round.

    Returns:
        Means over the seeds of validation `accuracy` (0 .. 1; with several seeds also `accuracy_std`) and `loss`;
        `bits_given`, `bits_left`, per weight and client; `top_plane`, see `TopPlanes`; `uplink_bytes` and
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
    planes = TopPlanes(executor, setup.build_model()[1])
    sizes, count = planes.layout.sizes, setup.experiment.partition.clients
    for record in Federation(setup, planes).rounds():
        if not math.isfinite(record.loss):
            raise UserError(f"the validation loss is {record.loss} in round {record.round}")
        yield {
            "accuracy": record.accuracy,
            "loss": record.loss,
            "bits_given": _average([client.given for client in record.clients], sizes),
            "bits_left": _average([client.left for client in record.clients], sizes),
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


class TopPlanes:
    """Hands tasks on to an executor, and counts the ones in the most significant magnitude planes of the answers.

    Their share is what lambda pushes down, and epsilon is compared with. A plane is that of the bits that a layer was
    given. If the client pruned it, it counts as empty: its ones, fewer than epsilon of the weights, are cut off.
    Layers given a single bit have signs only, and do not count.
    """

    def __init__(self, executor: Executor, layout: Layout):
        self.executor, self.layout = executor, layout
        self.ones, self.weights = 0.0, 0

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
        """See `Executor.run`."""
        for task, outcome in self.executor.run(tasks):
            if isinstance(task, TrainTask) and isinstance(outcome, bytes):
                with suppress(RejectedMessage):
                    self._count(task, outcome)
            yield task, outcome

    def take(self) -> float:
        """The share (0 .. 1) since the last call; NaN where there are no such planes."""
        share = self.ones / self.weights if self.weights else math.nan
        self.ones, self.weights = 0.0, 0
        return share

    def _count(self, task: TrainTask, answer: bytes) -> None:
        given = decode(task.downlink, self.layout, Kind.DOWNLINK, task.round, task.client).bits
        message = decode(answer, self.layout, Kind.UPLINK, task.round, task.client)
        if given is None or message.bits is None:
            return
        layers = message.model.weights.split(self.layout.sizes)
        for weights, bits, left, scale in zip(layers, given, message.bits, message.scales, strict=True):
            if bits > 1:
                self.weights += len(weights)
            if bits > 1 and left == bits:
                grid = FULL_RANGE.grid(torch.tensor(bits), scale)
                self.ones += len(weights) * top_plane_share(grid.encode(weights) - grid.zero, bits)
