"""How sparse training leaves the most significant bit planes, seen from the clients' answers.

The share of ones in a layer's most significant magnitude plane is what lambda pushes down, and what epsilon
is compared with. Clients do not report it, so it is counted in the codes that they send.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import torch

from fedmpq.federated.layout import Layout
from fedmpq.federated.messages import Kind, Message, RejectedMessage, decode
from fedmpq.federated.tasks import Executor, Task, TrainTask
from fedmpq.quantization.codes import Grid
from fedmpq.quantization.sparsity import top_plane_share

Answer = tuple[TrainTask, bytes]


class Answers:
    """An executor that hands everything on to another one and keeps the clients' answers of the round."""

    def __init__(self, executor: Executor):
        self.executor = executor
        self._kept: list[Answer] = []

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
        """See `Executor.run`."""
        for task, outcome in self.executor.run(tasks):
            if isinstance(task, TrainTask) and isinstance(outcome, bytes):
                self._kept.append((task, outcome))
            yield task, outcome

    def taken(self) -> list[Answer]:
        """The answers since the last call."""
        answers, self._kept = self._kept, []
        return answers

    def __enter__(self) -> "Answers":
        self.executor.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.executor.__exit__(*error)


def top_planes(answers: Iterable[Answer], bits: Sequence[dict[str, Any]], layout: Layout) -> tuple[float, int]:
    """Ones and weights, summed over the most significant magnitude planes of all layers of all clients.

    A plane is that of the bits that a layer was given. If the client pruned it, it counts as empty: its ones,
    fewer than epsilon of the weights, are cut off. Layers given a single bit have signs only, and do not count.

    Args:
        answers: of a round.
        bits: the round's rows of bits.csv; answers of clients that are not there do not count.
        layout: of the model.
    """
    given: dict[int, list[int]] = {}
    for row in bits:
        given.setdefault(row["client"], []).append(row["bits_given"])
    ones, weights = 0.0, 0
    for task, data in answers:
        with suppress(RejectedMessage):
            message = decode(data, layout, Kind.UPLINK, task.round, task.client)
            if message.bits is not None and task.client in given:
                found = _top_planes_of(message, given[task.client], layout.sizes)
                ones, weights = ones + found[0], weights + found[1]
    return ones, weights


def _top_planes_of(message: Message, given: list[int], sizes: list[int]) -> tuple[float, int]:
    ones, weights = 0.0, 0
    layers = zip(message.model.weights.split(sizes), given, message.bits, message.scales, strict=True)
    for values, bits, left, scale in layers:
        if bits > 1:
            weights += len(values)
            if left == bits:
                grid = Grid.of(torch.tensor(bits), scale)
                ones += len(values) * top_plane_share(grid.encode(values) - grid.zero, bits)
    return ones, weights
