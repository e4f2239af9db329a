"""Progress of a training: a bar in a terminal, plain lines elsewhere."""

import sys
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from fedmpq.config import Execution

if TYPE_CHECKING:
    from fedmpq.engine.cell import Cell


def outline(cell: "Cell", execution: Execution) -> str:
    """What lies ahead: a line on clients, images, rounds, memory, and one on what is quantized."""
    from fedmpq.engine.hardware import plan

    experiment, setup = cell.experiment, cell.setup(cell.experiment.partition.seeds[0])
    clients, training = experiment.partition.clients, experiment.training
    (model, layout, _), (count, memory) = setup.build_model(), plan(setup, execution)
    images, tested = len(setup.partition.indices), len(setup.evaluation_images[1])
    asked = "" if experiment.asked == clients else f" ({experiment.asked} a round)"
    return (
        f"{title(cell)}: {counted(clients, 'client')}{asked}, {images:,} training and {tested:,} test images,"
        f" {counted(training.rounds, 'round')} of {counted(training.local_epochs, 'epoch')},"
        f" {counted(len(experiment.partition.seeds), 'seed')}; about {memory / 1e9:.1f} GB"
        f" of memory for {'at most ' * bool(execution.ray_address)}{counted(count, 'worker')}"
        + ("" if experiment.algorithm(cell.algorithm).of == "fp32" else f"\n{title(cell)}: {layout.describe(model)}")
    )


def title(cell: "Cell") -> str:
    """What a training is called in a terminal."""
    return f"{cell.name} {cell.algorithm} alpha {cell.alpha_label}"


def counted(count: int, noun: str) -> str:
    """`1 round`, `2 rounds`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def duration(seconds: float) -> str:
    """`45 s`, `12 min` or `3 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


class Progress:
    """Shows round, accuracy and time left; a context manager."""

    def __init__(self, title: str, done: int, rounds: int, later: int = 0):
        """Begin at round `done` of `rounds`; `later` rounds, of other seeds, follow them."""
        self.title, self.rounds, self.later = title, rounds, later
        self.announced = False
        self.bar = tqdm(
            total=rounds,
            initial=done,
            desc=title,
            unit="round",
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
        )

    def show(self, row: dict[str, Any]) -> None:
        """Show a finished round by its row of rounds.csv; after the first one also the time that is left."""
        accuracy = f"accuracy {row['test_accuracy']:.1%}"
        if self.bar.disable:
            print(f"{self.title}: round {row['round']}/{self.rounds}, {accuracy}, {row['seconds']:.1f} s", flush=True)
        self.bar.set_postfix_str(accuracy, refresh=False)
        self.bar.update()
        self._announce(row)

    def _announce(self, row: dict[str, Any]) -> None:
        left = self.rounds - row["round"] + self.later
        if left and not self.announced:
            with self.bar.external_write_mode():
                print(f"{self.title}: about {duration(left * row['seconds'])} for the {counted(left, 'round')} left")
        self.announced = True

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()
