"""How sparse training leaves the most significant bit planes: what lambda pushes down, and epsilon is compared with.

Clients do not report the share of ones in those planes, so it is counted in the codes that they send.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import torch

from fedmpq.federated.layout import Layout
from fedmpq.federated.messages import Kind, RejectedMessage, decode
from fedmpq.federated.tasks import Executor, Task, TrainTask
from fedmpq.quantization.codes import Grid
from fedmpq.quantization.sparsity import top_plane_share


class TopPlanes:
    """Hands tasks on to an executor, and counts ones in what clients answer."""

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
        """Share of ones (0 .. 1) in the most significant magnitude planes of the layers answered since the last call.

        A plane is that of the bits that a layer was given. If the client pruned it, it counts as empty: its ones,
        fewer than epsilon of the weights, are cut off. Layers given a single bit have signs only, and do not count;
        NaN where there are no others.
        """
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
                grid = Grid.of(torch.tensor(bits), scale)
                self.ones += len(weights) * top_plane_share(grid.encode(weights) - grid.zero, bits)
