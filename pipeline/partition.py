"""Divide an experiment's training images among its clients: data/partitions/<experiment>/alpha-<alpha>/."""

import csv
from pathlib import Path

import numpy as np

from fedmpq.config import Experiment
from fedmpq.data.arrays import Dataset
from fedmpq.data.dirichlet import draw_partition, training_samples, typical_classes
from fedmpq.files import replacing
from pipeline import command

FIGURE_ALPHAS = (0.1, 0.5, 5)
"""Shown in the report whether or not they are trained; there a client may be left with few images."""


def write_partitions(dataset: Dataset, experiment: Experiment, alpha: float, enforce: bool, folder: Path) -> float:
    """Write seed-<seed>.npz for each seed, and counts.csv, into `folder`.

    Returns:
        The number of classes that make up 90 % of a client's images, median over clients and seeds.
    """
    folder.mkdir(parents=True)
    classes, typical, settings = len(dataset.classes), [], experiment.partition
    with (folder / "counts.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["seed", "client", *(f"label_{label}" for label in range(classes))])
        for seed in settings.seeds:
            partition = draw_partition(
                dataset.train_labels,
                settings.clients,
                alpha,
                seed,
                min_samples=settings.min_samples if enforce else 0,
                max_redraws=settings.max_redraws,
                samples=training_samples(dataset.train_labels, experiment.data.train_samples, seed),
            )
            partition.save(folder / f"seed-{seed}.npz")
            counts = partition.counts(dataset.train_labels, classes)
            table.writerows([seed, client, *row] for client, row in enumerate(counts.tolist()))
            typical.append(typical_classes(counts))
    return float(np.median(typical))


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Run the stage."""
    name = command.experiment_option("partition", __doc__, arguments)
    parameters = command.parameters()
    experiment = parameters.experiment(name)
    dataset = Dataset.load(command.ROOT / "data" / "prepared" / name)
    with replacing(command.ROOT / "data" / "partitions" / name) as temporary:
        for alpha in sorted({*parameters.alphas, *FIGURE_ALPHAS}):
            label, trained = parameters.alpha_label(alpha), alpha in parameters.alphas
            typical = write_partitions(dataset, experiment, alpha, trained, temporary / f"alpha-{label}")
            if trained:
                print(f"{name}, alpha {label}: 90 % of a client's images are of {typical:g} classes (median)")


if __name__ == "__main__":
    main()
