"""The package as a library: read an experiment, run it round by round, save a device's model. No files but temporary.

It only calls what the pipeline calls too, without DVC and MLflow.
"""

import atexit
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from math import inf
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import torch

from fedmpq import config
from fedmpq.config import MAX_BITS, Execution, load_parameters, parse_overrides
from fedmpq.data.arrays import Dataset
from fedmpq.data.dirichlet import draw_partition, training_samples
from fedmpq.data.partition import Partition
from fedmpq.data.prepare import prepare
from fedmpq.data.sources import above_raw, open_source
from fedmpq.engine.executors import build_executor
from fedmpq.engine.hardware import resolve_device, resolve_precision
from fedmpq.export.packed import Card, pack
from fedmpq.federated.server import Federation, RoundRecord
from fedmpq.federated.setup import Setup
from fedmpq.files import write_bytes
from fedmpq.pieces import check


class Experiment(config.Experiment):
    """A section of params.yaml, or of another file like it."""

    @classmethod
    def from_yaml(cls, path: str | Path, section: str, overrides: Sequence[str] = ()) -> "Experiment":
        """A `section` of the file at `path`, with `overrides` written as on the command line.

        >>> digits = fedmpq.Experiment.from_yaml("params.yaml", "digits", ["training.rounds=2"])
        >>> digits.training.rounds, digits.model.network
        (2, 'resnet8')

        An algorithm of one's own is a section too: `"mine={of: package.module:Class}"`.

        Raises:
            UserError: the file cannot be read, or something in it is not allowed; the message names both.
        """
        path, values = Path(path), parse_overrides(list(overrides), section)
        for key in values:
            check("overrides", key, key.startswith(f"{section}."), "keys of the section; run() has others itself")
        parameters = load_parameters(path, values)
        check(f"{path.name}: section", section, section in parameters.sections, ", ".join(parameters.sections))
        return cls.model_validate(parameters.sections[section].tree())


def run(
    experiment: config.Experiment, algorithm: str, alpha: float, seed: int = 0, workers: int = 1
) -> Iterator[RoundRecord]:
    """Train, on a GPU where there is one, and yield a record a round; results are those of the pipeline.

    >>> digits = fedmpq.Experiment.from_yaml("params.yaml", "digits", ["training.rounds=2"])
    >>> for record in fedmpq.run(digits, "aqfl", alpha=0.5):
    ...     print(f"round {record.round}: {record.accuracy:.1%}, client 0 at {record.clients[0].given[0]} bits")
    round 1: ...%, client 0 at 2 bits
    round 2: ...%, client 0 at 2 bits

    Images of one's own are looked for in data/raw/, those of the Hub are kept in the user's cache; either are decoded
    once a process.

    Args:
        experiment: the settings.
        algorithm: the name of one of its sections.
        alpha: Dirichlet concentration of the partition, > 0.
        seed: of all that is drawn.
        workers: clients that train at a time, each in a process of its own; 1: in this one.

    Raises:
        UserError: an argument is not allowed, or the images cannot be had; later, as `Federation.rounds`.
    """
    experiment.algorithm(algorithm)
    check("alpha", alpha, 0 < alpha < inf, "a number above 0")
    check("workers", workers, workers >= 1, "1 or more")
    folder, settings = _arrays(experiment.data), experiment.partition
    labels = Dataset.load(folder).train_labels
    drawn = {"min_samples": settings.min_samples, "max_redraws": settings.max_redraws}
    samples = training_samples(labels, experiment.data.train_samples, seed)
    held = draw_partition(labels, settings.clients, alpha, seed, **drawn, samples=samples)
    device = resolve_device("auto")
    precision = resolve_precision(experiment.training.precision, device)
    execution = Execution(executor="sequential" if workers == 1 else "processes", workers=workers)
    return _rounds(Setup(experiment, algorithm, seed, folder, held, device, precision), execution)


def save(path: str | Path, experiment: config.Experiment, algorithm: str, record: RoundRecord, budget: float) -> None:
    """Write the model of a round, packed for a device that can hold `budget` (1 .. 8) bits a weight.

    >>> digits = fedmpq.Experiment.from_yaml("params.yaml", "digits", ["training.rounds=1"])
    >>> (record,) = fedmpq.run(digits, "fedmpq", alpha=0.5)
    >>> fedmpq.save("saved.fmpq", digits, "fedmpq", record, budget=4)
    >>> fedmpq.load("saved.fmpq").card.round
    1
    """
    check("budget", budget, 1 <= budget <= MAX_BITS, f"1 to {MAX_BITS}")
    nobody = Partition(np.arange(0), np.arange(1))
    setup = Setup(experiment, algorithm, 0, _arrays(experiment.data), nobody, torch.device("cpu"), "float32")
    with _threads_kept():
        server = Federation(setup, executor=None)
    bits = setup.algorithm.allocate(server.view(record.state), budget)
    message = server.encoded(record.state.model, bits, record.round, 0)
    write_bytes(Path(path), pack(Card.of(setup, record.round), message))


def _rounds(setup: Setup, execution: Execution) -> Iterator[RoundRecord]:
    with _threads_kept(), build_executor(execution, setup) as executor:
        yield from Federation(setup, executor).rounds()


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Give torch its threads back: a server and its workers take one."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _arrays(data: config.DataSettings) -> Path:
    """Folder of the prepared arrays."""
    return _decoded(data.source, data.image_column, data.label_column, data.image_size)


@cache
def _decoded(source: str, image_column: str | None, label_column: str | None, image_size: int | None) -> Path:
    folder = Path(mkdtemp(prefix="fedmpq-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    downloads = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "fedmpq")
    found = open_source(source, above_raw(Path(), source) / "raw", downloads, image_column, label_column)
    prepare(source, found, image_size, folder / "arrays")
    return folder / "arrays"
