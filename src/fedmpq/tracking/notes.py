"""What MLflow's pages say of experiments and runs, and the commands that make them again."""

import json
import shlex
from pathlib import Path

from fedmpq.tracking.metrics import Training

NOTE = "mlflow.note.content"
"""The tag whose Markdown MLflow's pages show as a description."""
TUNING = "-tuning"


def experiment_note(name: str) -> str:
    """Of the experiment called `name`."""
    if name.endswith(TUNING):
        return search_note(name.removesuffix(TUNING))
    return (
        f"Trainings of one network on `{name}` by FedMPQ and its baselines, a run for each algorithm, alpha and seed."
        f" Where `{name}` is in the list `experiments` of params.yaml, they are made again by:\n\n    make repro"
    )


def run_note(training: Training, folder: Path) -> str:
    """Of a training; `folder` is that of the params.yaml from which its command starts."""
    return (
        f"A training by `{training.algorithm}`, seed {training.seed}, on clients among whom the images of"
        f" `{training.experiment}` were divided with Dirichlet concentration {training.alpha}. It is made again, as"
        f" those of the other seeds, by:\n\n    {command(training, folder)}"
    )


def command(training: Training, folder: Path) -> str:
    """The command that carries out `training`, whose parameters may be others than those of params.yaml."""
    names = {"experiment": training.experiment, "algorithm": training.algorithm, "alpha": training.alpha}
    words = [word for name, value in names.items() for word in (f"--{name}", value)]
    changes = training.changes(folder)
    for key, value in changes.items():
        own = key == "model.quantizer" or "." not in key
        place = f"{training.algorithm}.{key.removeprefix('model.')}" if own else key
        words += ["--set", f"{place}={json.dumps(value)}"]
    return shlex.join(["python", "-m", "pipeline.train", *words, *(["--out", "results/again"] if changes else [])])


def search_note(name: str, trial: int | None = None) -> str:
    """Of a search for parameters of the experiment called `name`, or of one `trial` of it."""
    what = "A search" if trial is None else f"Trial {trial} of a search"
    return (
        f"{what} for good parameters of `{name}`, measured on images that are held out of the training set. The search"
        f" goes on, or with NEW=1 is made again, by:\n\n    make tune EXPERIMENT={name}"
    )
