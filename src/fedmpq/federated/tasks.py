"""The tasks into which the work of a run is divided: descriptions, whoever carries them out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

EVALUATION_CHUNK = 1000
"""Images that one evaluation task takes: fixed, so that sums do not depend on the workers."""


@dataclass(frozen=True)
class TrainTask:
    """Train one client for a round; the result is its encoded answer."""

    round: int
    client: int
    downlink: bytes
    """The encoded model that it starts from."""
    cost: int
    """Images to process, by which tasks are ordered."""


@dataclass(frozen=True)
class EvaluateTask:
    """Evaluate a model on one chunk of the images: correct predictions and sum of the losses."""

    round: int
    model: bytes
    start: int
    quantized_activations: bool
    cost: int = 0


@dataclass(frozen=True)
class CalibrateTask:
    """Measure statistics of batch norm on some images of one client; the result is what `calibration.measure` says."""

    round: int
    client: int
    model: bytes
    """Encoded for this client."""
    quantized_activations: bool
    cost: int
    """Images that it measures on."""


Task = TrainTask | EvaluateTask | CalibrateTask


class TaskFailed(Exception):
    """A client could not give an answer; the text is its reason."""


@dataclass(frozen=True)
class Failure:
    """A task without a result, and why."""

    reason: str


class Executor(Protocol):
    """Carries out tasks; a context manager that lets its workers go at the end."""

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
        """Yield each of `tasks` with its result or a `Failure`, as they are completed."""

    def __enter__(self) -> "Executor": ...

    def __exit__(self, *error: object) -> None: ...
