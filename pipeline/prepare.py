"""Decode an experiment's data set into memory-mapped arrays: data/prepared/<experiment>/."""

import argparse
import os
from pathlib import Path

from fedmpq.data.prepare import prepare
from fedmpq.data.sources import open_source
from pipeline import command


def data_folder(name: str) -> Path:
    """The folder data/ in which raw/`name` is.

    `dvc exp run --temp` works in a copy of the repository without ignored files; DVC_ROOT leads back.
    """
    folders = [Path(os.environ.get("DVC_ROOT") or command.ROOT) / "data", command.ROOT / "data"]
    return next((folder for folder in folders if (folder / "raw" / name).is_dir()), folders[0])


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.prepare", description=__doc__)
    parser.add_argument("--experiment", required=True, metavar="NAME", help="a section of params.yaml")
    name = parser.parse_args(arguments).experiment
    experiment = command.parameters().experiment(name)
    folder = data_folder(experiment.data)
    source = open_source(experiment.data, folder / "raw", folder / "downloads")
    prepare(experiment.data, source, experiment.image_size, command.ROOT / "data" / "prepared" / name)
    sizes = f"{len(source.train.labels)} training and {len(source.test.labels)} test images"
    print(f"{name}: {sizes} of {len(source.classes)} classes, from {source.description}")


if __name__ == "__main__":
    main()
