"""Whole trainings: a round beside the steps that it has at least, the start-up, the memory, and how both grow."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from joblib import cpu_count

from benchmarks.core import plain_loop
from benchmarks.measure import AT_LEAST, AT_MOST, Benchmark, Rows, Watched, alternate, lengths, start, watch
from benchmarks.project import Scale, make, train

LEAST, WHOLE = "plain steps and evaluation, on one core, / cores", "with evaluation and logging, all cores"
ROUNDS = {
    "fp32": Benchmark("round", LEAST, f"a whole round of FP32, {WHOLE}", AT_LEAST, 85, "%"),
    "fedmpq": Benchmark("round-fedmpq", LEAST, f"a whole round of FedMPQ, {WHOLE}", AT_LEAST, 85, "%"),
}
LOGGING = Benchmark("logging", "MLflow and files per round", "the round of FedMPQ", AT_MOST, 2, "%")
LOOP = "the same steps in a plain loop, a process a core"
DIGITS = {
    "fp32": Benchmark("digits", LOOP, "a round of `digits` by FP32", AT_LEAST, 60, "%"),
    "fedmpq": Benchmark("digits-fedmpq", LOOP, "a round of `digits` by FedMPQ", AT_LEAST, 60, "%"),
}
STARTED = "start-up of pipeline.train to the end of a round of one step"
START = Benchmark("start", STARTED, "import torch, lightning", AT_MOST, 2, "s")
MEMORY = Benchmark("memory", "peak memory, 1,000 clients of which 10 train", "10 clients", AT_MOST, 1.1, "x")
MOST, FEWER = "10,000 clients of which 100 train", "1,000 of which 100 train"
GROWTH = (
    Benchmark("growth-time", f"a round of {MOST}", FEWER, AT_MOST, 1.1, "x"),
    Benchmark("growth-memory", f"peak memory, {MOST}", FEWER, AT_MOST, 1.1, "x"),
    Benchmark("growth-rounds", f"rounds 18 to 20 of {MOST}", "rounds 2 to 4", AT_MOST, 1.1, "x"),
)


def rounds(folder: Path, scale: Scale) -> Rows:
    """Rounds of FP32, whose step is the plain one, and of FedMPQ."""
    rows, cell, last = _beside_plain(folder, scale, ROUNDS, scale.test_images, cores=1)
    (table,) = cell.root.glob("results/**/rounds.csv")
    outside = np.subtract(lengths(last), pd.read_csv(table)["seconds"][1:])
    yield from rows
    yield LOGGING.row(outside.tolist(), lengths(last), "all of a round but the federation's own work")


def digits(folder: Path, scale: Scale) -> Rows:
    """Rounds of as many images as `digits` has, with its parameters; more of them, for the first few are slower."""
    same = Scale("resnet8", image_size=16, batch=32, images=144, test_images=360, rounds=3 * scale.rounds)
    rows, *_ = _beside_plain(folder, same, DIGITS, tests=0, cores=cpu_count())
    yield from rows


def _beside_plain(folder: Path, scale: Scale, rows: dict[str, Benchmark], tests: int, cores: int) -> tuple[Any, ...]:
    """The rows, and the last training; `cores` are those at work together in the plain loop."""
    cells = [make(folder / row.name, scale, algorithm) for algorithm, row in rows.items()]
    clients, share = np.diff(cells[0].setup(0).partition.offsets).tolist(), cores / cpu_count()
    least, *runs = alternate(
        lambda: share * plain_loop(scale, "auto", clients, tests, cores),
        *(lambda cell=cell: watch(train(cell)) for cell in cells),
        times=min(2, scale.repeats),
    )
    note = f"{scale.clients} clients, {sum(clients):,} images divided at alpha 0.5, {scale.test_images} test images"
    found = [row.row(least, lengths(*own), note) for row, own in zip(rows.values(), runs, strict=True)]
    return found, cells[-1], runs[-1][-1]


def start_up(folder: Path, scale: Scale) -> Rows:
    """The start-up."""
    cell = make(folder / "start", replace(scale, clients=1, images=8, test_images=8, rounds=1), "fedmpq")
    imports = [sys.executable, "-c", "import torch, lightning; print('round 1', flush=True)"]
    found = alternate(
        lambda: watch(train(cell)).times[0],
        lambda: watch(start(imports, cell.root)).times[0],
        times=scale.repeats,
    )
    yield START.row(*found, "FedMPQ, MLflow's database is there")


def memory(folder: Path, scale: Scale) -> Rows:
    """The memory: clients hold equally many images, so the data set grows with them."""
    few = replace(scale, images=scale.batch)
    runs = [_crowd(folder, few, clients, few.clients) for clients in (100 * few.clients, few.clients)]
    found = alternate(*runs, times=min(3, scale.repeats))
    note = f"all processes together, at the ends of rounds; each client holds {scale.batch} images"
    yield MEMORY.row(*([run.peak for run in side] for side in found), note, "MiB")


def growth(folder: Path, scale: Scale) -> Rows:
    """Time and memory of rounds of ever more tiny clients; the first row has what the figure shows."""
    tiny = replace(scale, network="resnet8", image_size=8, batch=8, images=8, test_images=100, rounds=20)
    runs = [_crowd(folder, tiny, clients, asked=min(100, clients // 10))() for clients in scale.crowds]
    points = {"clients": scale.crowds, "s": [median(lengths(run)) for run in runs], "MiB": [run.peak for run in runs]}
    note = "FedMPQ, ResNet-8, 8 x 8 pixels, a batch of 8 images a client"
    fewer, most = lengths(runs[-2]), lengths(runs[-1])
    yield GROWTH[0].row(most, fewer, f"{note}; history and checkpoint included") | {"growth": points}
    yield GROWTH[1].row([runs[-1].peak], [runs[-2].peak], "all processes together, at the ends of rounds", "MiB")
    yield GROWTH[2].row(most[-3:], most[:3], "of 20; three of each, for one alone says little")


def _crowd(folder: Path, scale: Scale, clients: int, asked: int) -> Callable[[], Watched]:
    """What trains `clients`, all alike, of which `asked` take part in a round."""
    name, many = f"{scale.network}-{clients}", replace(scale, clients=clients)
    cell = make(folder / name, many, "fedmpq", {"participation.share": asked / clients}, alike=True)
    return lambda: watch(train(cell), weigh=True)
