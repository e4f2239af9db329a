"""Progress of a training: a bar in a terminal, plain lines elsewhere."""

import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from tqdm import tqdm

from fedmpq.config import Execution
from fedmpq.engine.results import Row

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


class Progress(AbstractContextManager):
    """Shows round, accuracy and time left."""

    def __init__(self, title: str, done: int, rounds: int, later: int):
        """Begin at round `done` of `rounds`; `later` rounds, of other seeds, follow them."""
        self.title, self.rounds, self.later = title, rounds, later
        bar = {"desc": title, "unit": "round", "file": sys.stderr, "dynamic_ncols": True}
        self.bar = tqdm(total=rounds, initial=done, disable=None, **bar)  # None: it is shown in a terminal

    def show(self, row: Row) -> None:
        """Show a finished round by its row of rounds.csv."""
        left = (self.rounds - row["round"] + self.later) * row["seconds"]
        said = f"accuracy {row['test_accuracy']:.1%}, about {tqdm.format_interval(left)} to the end"
        if self.bar.disable:
            print(f"{self.title}: round {row['round']}/{self.rounds}, {row['seconds']:.1f} s, {said}", flush=True)
        self.bar.set_postfix_str(said, refresh=False)
        self.bar.update()

    def __exit__(self, *error: object) -> None:
        self.bar.close()
